"""Texts that people write: plain, of a bounded length, without what a database or a page would choke on."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

TAG = re.compile(r"<[/!?a-zA-Z]")
UNWRITTEN = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffe\uffff"
"""Characters that no keyboard writes: controls but for tab and the ends of lines, private use, and two that XML cannot hold.

Said by their numbers and not by what this Python's edition of Unicode knows: a sign that is newer, as in a rare family name or a
village's, is no fault of the writer.
"""
CONTROL = re.compile(f"[{UNWRITTEN}\ud800-\udfff]")
PATTERN = f"^(?:[^<{UNWRITTEN}]|<(?![/!?a-zA-Z]))*$"
"""What `plain` takes, for the interface document."""


def plain(text: str) -> str:
    """The text in NFC without spaces around it. Raises ValueError for markup and for characters that no keyboard writes.

    Markup is refused and not removed: who sends it means something else than what would be left.
    """
    if "\0" in text:
        raise ValueError("holds the character U+0000, which databases do not keep")
    if TAG.search(text):
        raise ValueError("is plain text: no HTML or other markup")
    if CONTROL.search(text):
        raise ValueError("holds a control character")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


class Described:
    """Beside a validator that uses `plain`: says in the interface document what is taken."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(core) | {"pattern": PATTERN}


def Plain(longest: int, shortest: int = 0) -> Any:  # noqa: N802
    """The annotated type of a plain text of at most `longest` characters."""
    return Annotated[str, Field(max_length=longest, min_length=shortest), AfterValidator(plain), Described()]


def written_day(value: object) -> object:
    """A day stands as 2026-03-02; the reader alone would also take seconds since 1970 for one, as a number or as a text."""
    if not isinstance(value, date) and not (isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)):
        raise ValueError("a day is written like 2026-03-02")
    return value


Day = Annotated[date, BeforeValidator(written_day), Field(strict=False, examples=["2027-01-01"])]
CODE_PATTERN = r"^[0-9A-Za-z._:-]+$"
"""Identifiers of departments, rules, templates and the like: what may also stand in a fact."""
