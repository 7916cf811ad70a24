"""The lines of an imported workbook: columns found by headings in either language, every trouble noted with its place."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from services.case.columns import Role, names_of, pieces, role_of
from services.case.sheets import Cell, Sheet

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
MOST = 200
"""Troubles that are told at once; the next one is counted, not told."""
SEARCHED = 10
"""Rows among which the headings are looked for: lists of offices often have a title above them."""


class Trouble(BaseModel):
    """Why a workbook cannot be imported, and where that stands."""

    sheet: str
    row: int | None = None
    column: str | None = None
    reason: str


@dataclass
class Troubles:
    """All that is wrong with a workbook, in the order in which it was found."""

    found: list[Trouble] = field(default_factory=list)
    count: int = 0

    def note(self, sheet: str, row: int | None, column: str | None, reason: str) -> None:
        self.count += 1
        if len(self.found) < MOST:
            self.found.append(Trouble(sheet=sheet, row=row, column=column, reason=reason))


@dataclass(frozen=True)
class Line:
    """One row of a sheet: its cells by the names of columns; a column that the sheet does not have is not among `letters`."""

    sheet: str
    row: int
    cells: dict[str, Cell]
    letters: dict[str, str]
    troubles: Troubles

    def has(self, name: str) -> bool:
        return name in self.letters

    def wrong(self, name: str, reason: str) -> None:
        self.troubles.note(self.sheet, self.row, self.letters.get(name), reason)

    def blank(self, name: str) -> bool:
        cell = self.cells.get(name)
        return cell is None or (cell.value is None and not cell.wrong)

    def read(self, name: str, read: Callable[[Any], T], default: T) -> T:
        """What the cell says, `default` for a blank one and for one that says nothing that can be used, which is noted."""
        cell = self.cells.get(name)
        if cell is None or self.blank(name):
            return default
        try:
            if cell.wrong:
                raise ValueError(cell.wrong)
            return read(cell.value)
        except ValidationError as error:
            self.wrong(name, error.errors()[0]["msg"])
        except ValueError as error:
            self.wrong(name, str(error))
        return default

    def text(self, name: str, default: str = "") -> str:
        return self.read(name, as_text, default)

    def made(self, model: type[M], columns: dict[str, str], values: dict[str, Any]) -> M | None:
        """An entry of these values; what it cannot be is noted at the column that the field comes from."""
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for one in error.errors():
                name = str(one["loc"][0])
                missing = one["type"] in ("string_too_short", "missing") or values.get(name) in ("", None)
                self.wrong(columns.get(name, name), "must not be empty" if missing else one["msg"])
            return None


def as_text(value: Any) -> str:
    """The text of a cell; a whole number is one without a decimal point. Raises ValueError for yes/no."""
    if isinstance(value, bool):
        raise ValueError("must be a text")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return unicodedata.normalize("NFC", str(value))


def as_number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"must be a number, not {value}") from None


@dataclass(frozen=True)
class Table:
    """A sheet that is read: what stands on it, and its rows below the headings."""

    role: Role
    title: str
    lines: tuple[Line, ...]


def tables(sheets: Iterable[Sheet], troubles: Troubles, ignored: list[str]) -> list[Table]:
    """The sheets that are known; `ignored` gets the names of sheets and columns that are not read."""
    held = [s for s in sheets if s.rows]
    found = []
    for sheet in held:
        role = role_of(sheet.title, len(held) == 1)
        if role is None:
            ignored.append(sheet.title)
        elif table := _table(sheet, role, troubles, ignored):
            found.append(table)
    return found


def _table(sheet: Sheet, role: Role, troubles: Troubles, ignored: list[str]) -> Table | None:
    names = names_of(role)
    head = next((n for n, row in enumerate(sheet.rows[:SEARCHED]) if len(_named(row, names)) >= 2), None)
    if head is None:
        troubles.note(sheet.title, None, None, "has no row with the names of columns")
        return None
    columns = _named(sheet.rows[head], names)
    for cell in sheet.rows[head]:
        if cell.value is not None and cell.column not in columns.values():
            ignored.append(f"{sheet.title}: {cell.value}")
    lines = (_line(sheet.title, row, columns, troubles) for row in sheet.rows[head + 1 :])
    return Table(role, sheet.title, tuple(line for line in lines if any(not line.blank(name) for name in columns)))


def _line(title: str, row: tuple[Cell, ...], columns: dict[str, str], troubles: Troubles) -> Line:
    by_letter = {c.column: c for c in row}
    cells = {name: by_letter[letter] for name, letter in columns.items() if letter in by_letter}
    return Line(title, row[0].row, cells, columns, troubles)


def _named(row: Iterable[Cell], names: dict[str, str]) -> dict[str, str]:
    """Column name → letter, for every heading that is known; of two the first."""
    found: dict[str, str] = {}
    for cell in row:
        name = next((names[p] for p in pieces(cell.value) if p in names), None)
        if name is not None and isinstance(cell.value, str):
            found.setdefault(name, cell.column)
    return found
