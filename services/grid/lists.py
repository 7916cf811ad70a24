"""Reads the lists of a pack that say where things are: divisions and cells, each entry checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from services.grid.domain import Cell, Division
from services.grid.files import PackError, Row, features, rows
from shared.errors import Invalid


def read_divisions(file: Path) -> tuple[Division, ...]:
    """The units of all periods. Raises PackError."""
    columns = ("code", "parent", "name_zh", "name_en", "level_label", "lon", "lat", "valid_from", "valid_to")
    found: list[tuple[Row, Division]] = []
    by_code: dict[str, list[Division]] = {}
    for row in rows(file, columns):
        division = _division(row)
        if any(division.overlaps(other) for other in by_code.get(division.code, ())):
            raise row.wrong("code", f"{division.code} holds twice on the same day")
        by_code.setdefault(division.code, []).append(division)
        found.append((row, division))
    for row, division in found:
        if division.parent is not None and division.parent not in by_code:
            raise row.wrong("parent", f"no unit has the code {division.parent}")
        if division.code in _above(division.code, by_code):
            raise row.wrong("parent", f"{division.code} lies below itself")
    return tuple(division for _, division in found)


def _above(code: str, by_code: dict[str, list[Division]]) -> set[str]:
    """The codes of every unit that this one lay in, in any period."""
    found: set[str] = set()
    ahead = [code]
    while ahead:
        parents = {d.parent for d in by_code.get(ahead.pop(), ()) if d.parent} - found
        found |= parents
        ahead += parents
    return found


def _division(row: Row) -> Division:
    since, until = row.maybe("valid_from", date.fromisoformat), row.maybe("valid_to", date.fromisoformat)
    if since and until and until <= since:
        raise row.wrong("valid_to", "must come after valid_from")
    return Division(
        code=row.read("code", code),
        parent=row.maybe("parent", code),
        name_zh=row.text("name_zh"),
        name_en=row.text("name_en"),
        level_label=row.text("level_label"),
        lon=row.maybe("lon", degrees(180)),
        lat=row.maybe("lat", degrees(90)),
        valid_from=since,
        valid_to=until,
    )


def code(text: str) -> str:
    """Raises ValueError for what is no code of a division, category or cell."""
    if not (text.isascii() and text.isalnum() and text == text.upper() and 2 <= len(text) <= 20):
        raise ValueError(f"a code has 2 to 20 digits or capital letters, not {text!r}")
    return text


def degrees(limit: int) -> Callable[[str], float]:
    """Reads a longitude or latitude of at most `limit` degrees either way; what it makes raises ValueError."""

    def read(text: str) -> float:
        value = float(text)
        if not -limit <= value <= limit:
            raise ValueError(f"must lie between -{limit} and {limit} degrees")
        return value

    return read


def read_cells(file: Path, divisions: tuple[Division, ...]) -> tuple[Cell, ...]:
    """The cells, each inside a unit of the pack. Raises PackError; a feature is counted from 1, since JSON keeps no lines."""
    units = tuple({d.code for d in divisions})
    found: dict[str, Cell] = {}
    for number, feature in enumerate(features(file), start=1):
        place = f"feature {number}"
        try:
            cell = Cell.of(feature)
        except Invalid as error:
            raise PackError(file, place, error.field or "feature", error.detail) from None
        if not cell.division.startswith(units):
            raise PackError(file, place, "properties.division", f"{cell.division} begins with no unit of divisions.csv")
        if cell.code in found:
            raise PackError(file, place, "properties.code", f"{cell.code} stands here a second time")
        found[cell.code] = cell
    return tuple(found.values())
