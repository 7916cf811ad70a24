"""Texts that people write: plain, of a bounded length, without what a database or a page would choke on."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, Field

TAG = re.compile(r"<[/!?a-zA-Z]")
CONTROL = frozenset(["Cc", "Cs", "Co", "Cn"])
KEPT = frozenset("\n\t")


def plain(text: str) -> str:
    """The text in NFC without spaces around it. Raises ValueError for markup and for characters that no keyboard writes.

    Markup is refused and not removed: who sends it means something else than what would be left.
    """
    if "\0" in text:
        raise ValueError("holds the character U+0000, which databases do not keep")
    if TAG.search(text):
        raise ValueError("is plain text: no HTML or other markup")
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if any(unicodedata.category(c) in CONTROL and c not in KEPT for c in text):
        raise ValueError("holds a control character")
    return text


def Plain(longest: int, shortest: int = 0) -> Any:  # noqa: N802
    """The annotated type of a plain text of at most `longest` characters."""
    return Annotated[str, Field(max_length=longest, min_length=shortest), AfterValidator(plain)]


CODE_PATTERN = r"^[0-9A-Za-z._:-]+$"
"""Identifiers of departments, rules, templates and the like: what may also stand in a fact."""
