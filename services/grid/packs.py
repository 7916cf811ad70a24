"""Reads a data pack: one folder with the units, the catalogue and the cells of a region, checked before anything uses it."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import orjson

from services.grid.domain import Category, Cell, CellIndex, Division
from shared.errors import Invalid

T = TypeVar("T")
KINDS = ("part", "event")


class PackError(Invalid):
    """A file of a pack cannot be used; the text names file, place and field."""

    code = "pack"

    def __init__(self, file: Path, place: str, field: str, reason: str) -> None:
        super().__init__(f"{file.name}, {place}, {field}: {reason}", field=field, file=file.name, place=place)


@dataclass(frozen=True, slots=True)
class Text:
    """A text in both languages."""

    zh: str
    en: str


@dataclass(frozen=True)
class Pack:
    """Everything a pack says."""

    code: str
    name: Text
    note: Text
    zone: str
    edition: str
    sources: tuple[str, ...]
    divisions: tuple[Division, ...]
    catalogue: tuple[Category, ...]
    cells: CellIndex

    def division(self, code: str, day: date) -> Division | None:
        """The unit that had this code on that day."""
        return next((d for d in self.divisions if d.code == code and d.at(day)), None)


def load(folder: Path) -> Pack:
    """Read and check a whole pack. Raises PackError."""
    about = _About.read(folder / "pack.toml")
    divisions = read_divisions(folder / "divisions.csv")
    if not any(d.code == about.code and d.parent is None for d in divisions):
        raise PackError(folder / "pack.toml", "top level", "code", "is no unit without parent in divisions.csv")
    return Pack(
        code=about.code,
        name=about.both("name"),
        note=about.both("note"),
        zone=about.zone(),
        edition=about.text("edition"),
        sources=about.texts("sources"),
        divisions=divisions,
        catalogue=read_catalogue(folder / "catalogue.csv"),
        cells=CellIndex(read_cells(folder / "cells.geojson", divisions)),
    )


@dataclass(frozen=True, slots=True)
class _About:
    """The values of pack.toml."""

    file: Path
    values: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> _About:
        try:
            return cls(file, tomllib.loads(_content(file)))
        except tomllib.TOMLDecodeError as error:
            raise PackError(file, "whole file", "TOML", str(error)) from None

    @property
    def code(self) -> str:
        return self.text("code")

    def text(self, name: str, table: str | None = None) -> str:
        inside = self.values if table is None else self.values.get(table)
        value = inside.get(name) if isinstance(inside, dict) else None
        if not isinstance(value, str) or not value:
            raise PackError(self.file, f"[{table}]" if table else "top level", name, "must be a text that is not empty")
        return value

    def both(self, table: str) -> Text:
        return Text(self.text("zh", table), self.text("en", table))

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise PackError(self.file, "top level", name, "must be a list of texts that are not empty")
        return tuple(value)

    def zone(self) -> str:
        name = self.text("zone")
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            raise PackError(self.file, "top level", "zone", f"no time zone is called {name!r}") from None
        return name


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a CSV file, which knows where it stands."""

    file: Path
    line: int
    values: dict[str, str]

    def wrong(self, field: str, reason: str) -> PackError:
        return PackError(self.file, f"line {self.line}", field, reason)

    def text(self, field: str) -> str:
        if not self.values[field]:
            raise self.wrong(field, "must not be empty")
        return self.values[field]

    def maybe(self, field: str, read: Callable[[str], T]) -> T | None:
        return self.read(field, read) if self.values[field] else None

    def read(self, field: str, read: Callable[[str], T]) -> T:
        try:
            return read(self.text(field))
        except ValueError as error:
            raise self.wrong(field, str(error)) from None


def _rows(file: Path, fields: tuple[str, ...]) -> Iterator[_Row]:
    reader = csv.reader(_content(file).splitlines(keepends=True), strict=True)
    try:
        head = next(reader, [])
        if missing := [f for f in fields if f not in head]:
            raise PackError(file, "line 1", missing[0], f"the column is missing; there are: {', '.join(head)}")
        for values in reader:
            if len(values) != len(head):
                raise PackError(file, f"line {reader.line_num}", "row", f"has {len(values)} fields, the head {len(head)}")
            yield _Row(file, reader.line_num, dict(zip(head, values, strict=True)))
    except csv.Error as error:
        raise PackError(file, f"line {reader.line_num}", "CSV", str(error)) from None


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PackError(file, "whole file", "file", error.strerror or "cannot be read") from None
    except UnicodeDecodeError as error:
        raise PackError(file, f"byte {error.start}", "file", "is not UTF-8") from None


def read_divisions(file: Path) -> tuple[Division, ...]:
    """The units of all periods. Raises PackError."""
    columns = ("code", "parent", "name_zh", "name_en", "level_label", "lon", "lat", "valid_from", "valid_to")
    found: list[tuple[_Row, Division]] = []
    by_code: dict[str, list[Division]] = {}
    for row in _rows(file, columns):
        division = _division(row)
        if any(division.overlaps(other) for other in by_code.get(division.code, ())):
            raise row.wrong("code", f"{division.code} holds twice on the same day")
        by_code.setdefault(division.code, []).append(division)
        found.append((row, division))
    for row, division in found:
        if division.parent is not None and division.parent not in by_code:
            raise row.wrong("parent", f"no unit has the code {division.parent}")
    return tuple(division for _, division in found)


def _division(row: _Row) -> Division:
    since, until = row.maybe("valid_from", date.fromisoformat), row.maybe("valid_to", date.fromisoformat)
    if since and until and until <= since:
        raise row.wrong("valid_to", "must come after valid_from")
    return Division(
        code=row.read("code", _code),
        parent=row.maybe("parent", _code),
        name_zh=row.text("name_zh"),
        name_en=row.text("name_en"),
        level_label=row.text("level_label"),
        lon=row.maybe("lon", _degrees(180)),
        lat=row.maybe("lat", _degrees(90)),
        valid_from=since,
        valid_to=until,
    )


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


def read_catalogue(file: Path) -> tuple[Category, ...]:
    """The categories. Raises PackError."""
    columns = ("code", "kind", "name_zh", "name_en", "limit_hours", "edition", "valid_from")
    found: dict[str, Category] = {}
    for row in _rows(file, columns):
        category = Category(
            code=row.read("code", _code),
            kind=row.read("kind", _kind),
            name_zh=row.text("name_zh"),
            name_en=row.text("name_en"),
            limit_hours=row.read("limit_hours", _hours),
            edition=row.text("edition"),
            valid_from=row.maybe("valid_from", date.fromisoformat),
        )
        if category.code in found:
            raise row.wrong("code", f"{category.code} stands here a second time")
        found[category.code] = category
    return tuple(found.values())


def _kind(text: str) -> str:
    if text not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}, not {text!r}")
    return text


def _hours(text: str) -> int:
    if (hours := int(text)) <= 0:
        raise ValueError("must be more than 0 hours")
    return hours


def read_cells(file: Path, divisions: tuple[Division, ...]) -> tuple[Cell, ...]:
    """The cells, each inside a unit of the pack. Raises PackError; a feature is counted from 1, since JSON keeps no lines."""
    units = tuple({d.code for d in divisions})
    found: dict[str, Cell] = {}
    for number, feature in enumerate(_features(file), start=1):
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


def _features(file: Path) -> list[Any]:
    try:
        features = orjson.loads(_content(file))["features"]
    except orjson.JSONDecodeError as error:
        raise PackError(file, f"line {error.lineno}", "JSON", error.msg) from None
    except (KeyError, TypeError):
        features = None
    if not isinstance(features, list):
        raise PackError(file, "whole file", "features", "must be the list of a GeoJSON FeatureCollection")
    return features
