"""Opens a workbook of others (.xlsx) without trusting it: bounded before it is unpacked, no formula, no macro, no entity."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Any
from xml.parsers import expat

from openpyxl import load_workbook  # type: ignore[import-untyped]
from openpyxl.utils import get_column_letter  # type: ignore[import-untyped]

from shared.errors import Invalid

FILE = "/file"
LARGEST_UNPACKED = 20 * 1024 * 1024
MOST_PARTS, MOST_SHEETS, MOST_ROWS, MOST_COLUMNS = 300, 20, 10_000, 60
PLAINLY_PACKED = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
LINKED = (".xml", ".rels", ".vml")


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell, and where. `value` is a text, a number, yes/no or None; `wrong` says why it cannot be used."""

    row: int
    column: str
    value: str | int | float | bool | None = None
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    title: str
    rows: tuple[tuple[Cell, ...], ...]


def opened(data: bytes) -> list[Sheet]:
    """The worksheets with the rows that hold anything. Raises Invalid at `/file` for what is no workbook or too large a one."""
    _inspect(data)
    try:
        # Read-only reads cell by cell; links to other workbooks are not followed.
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=False, keep_links=False)
        if len(book.worksheets) > MOST_SHEETS:
            raise Invalid(f"has more than {MOST_SHEETS} sheets", field=FILE)
        return [Sheet(sheet.title, tuple(_rows(sheet))) for sheet in book.worksheets]
    except Invalid:
        raise
    except Exception as error:
        # The library says in a dozen ways that a part is not what it should be; whichever it is, the file is at fault.
        raise Invalid(f"cannot be read as a workbook: {type(error).__name__}", field=FILE) from error


def _inspect(data: bytes) -> None:
    """Look at the directory before anything is unpacked: a few kilobytes can claim to hold gigabytes."""
    try:
        packed = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError):
        raise Invalid("is no .xlsx workbook", field=FILE) from None
    parts = packed.infolist()
    if len(parts) > MOST_PARTS or sum(p.file_size for p in parts) > LARGEST_UNPACKED:
        raise Invalid(f"would unpack to more than {LARGEST_UNPACKED // 1024 // 1024} MB or {MOST_PARTS} parts", field=FILE)
    if len({p.filename for p in parts}) < len(parts):
        raise Invalid("holds a part twice", field=FILE)
    for part in parts:
        if part.flag_bits & 1 or part.compress_type not in PLAINLY_PACKED:
            raise Invalid("is encrypted or packed in an unusual way", field=FILE)
        if part.filename.lower().endswith("vbaproject.bin"):
            raise Invalid("holds macros; save it as .xlsx", field=FILE)
        if part.filename.lower().endswith(LINKED):
            _no_entities(packed, part)


def _no_entities(packed: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Refuse a part that declares anything: entities make much out of little, and no spreadsheet writes them."""
    parser = expat.ParserCreate()

    def declared(*_: object) -> None:
        raise Invalid(f"{part.filename} declares a document type", field=FILE)

    parser.StartDoctypeDeclHandler = declared
    try:
        # What a part really holds ends where the directory says that it ends.
        with packed.open(part) as stream:
            parser.ParseFile(stream)
    except (expat.ExpatError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        raise Invalid(f"{part.filename} is damaged", field=FILE) from None


def _rows(sheet: Any) -> Iterator[tuple[Cell, ...]]:
    # The sheet's own word about its size may be anything.
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(max_col=MOST_COLUMNS), start=1):
        if number > MOST_ROWS:
            raise Invalid(f"the sheet {sheet.title} has more than {MOST_ROWS} rows", field=FILE)
        row = tuple(_cell(number, get_column_letter(at), cell) for at, cell in enumerate(cells, start=1))
        if any(c.value is not None or c.wrong for c in row):
            yield row


def _cell(row: int, column: str, cell: Any) -> Cell:
    value, kind = cell.value, cell.data_type
    if kind == "f":
        return Cell(row, column, None, "holds a formula; put its value there")
    if kind == "e":
        return Cell(row, column, None, f"holds the error {value}")
    if isinstance(value, date | time | timedelta):
        return Cell(row, column, None, "holds a day or a time; format the cell as text")
    if isinstance(value, str):
        return Cell(row, column, value.strip() or None)
    if value is None or isinstance(value, bool | int | float):
        return Cell(row, column, value)
    return Cell(row, column, None, "holds something other than a text or a number")
