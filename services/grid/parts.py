"""The managed parts 部件 that a data pack lists: where each stands, who owns it and who keeps it in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.grid.files import rows

COLUMNS = ("code", "category", "name_zh", "name_en", "lon", "lat", "owner", "maintainer")


@dataclass(frozen=True, slots=True)
class Part:
    """One thing in public space; `owner` and `maintainer` are codes of departments, where they are known."""

    code: str
    category: str
    name_zh: str
    name_en: str
    lon: float
    lat: float
    owner: str | None
    maintainer: str | None


def read_parts(folder: Path) -> dict[str, Part]:
    """The parts of a pack by code; a pack may list none. Raises PackError."""
    file = folder / "parts.csv"
    if not file.exists():
        return {}
    found: dict[str, Part] = {}
    for row in rows(file, COLUMNS):
        part = Part(
            code=row.read("code", _code), category=row.text("category"), name_zh=row.text("name_zh"), name_en=row.text("name_en"),
            lon=row.read("lon", _degrees(180)), lat=row.read("lat", _degrees(90)),
            owner=row.maybe("owner", str), maintainer=row.maybe("maintainer", str),
        )  # fmt: skip
        if part.code in found:
            raise row.wrong("code", f"{part.code} stands here a second time")
        found[part.code] = part
    return found


def _code(text: str) -> str:
    if not (text.isascii() and text.isalnum() and text == text.upper() and 2 <= len(text) <= 20):
        raise ValueError(f"a code has 2 to 20 digits or capital letters, not {text!r}")
    return text


def _degrees(limit: int) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not -limit <= value <= limit:
            raise ValueError(f"must lie between -{limit} and {limit} degrees")
        return value

    return read
