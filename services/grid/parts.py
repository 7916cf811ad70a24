"""The managed parts 部件 that a data pack lists: where each stands, who owns it and who keeps it in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.grid.files import rows
from services.grid.lists import code, degrees

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
            code=row.read("code", code), category=row.text("category"), name_zh=row.text("name_zh"), name_en=row.text("name_en"),
            lon=row.read("lon", degrees(180)), lat=row.read("lat", degrees(90)),
            owner=row.maybe("owner", str), maintainer=row.maybe("maintainer", str),
        )  # fmt: skip
        if part.code in found:
            raise row.wrong("code", f"{part.code} stands here a second time")
        found[part.code] = part
    return found
