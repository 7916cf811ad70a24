"""A data pack: one folder with the units, the catalogue and the cells of a region, checked before anything uses it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from services.grid.boundaries import Boundaries, located
from services.grid.catalogue import Catalogue, read_catalogue
from services.grid.domain import Category, CellIndex, Division, Text
from services.grid.files import CRS, PackError, content
from services.grid.lists import read_cells, read_divisions

EDITION = re.compile("[0-9A-Za-z._:/-]{1,40}")
"""Stands in facts, so it is a code; the words about it are in `sources`."""


@dataclass(frozen=True)
class Pack:
    """Everything a pack says.

    `lengths`: digits of a division code by level, shortest first; `groups`: codes that only group units in lists and have no
    ground of their own.
    """

    code: str
    name: Text
    note: Text
    zone: str
    edition: str
    sources: tuple[str, ...]
    lengths: tuple[int, ...]
    groups: frozenset[str]
    divisions: tuple[Division, ...]
    standards: Catalogue
    cells: CellIndex
    boundaries: Boundaries | None

    @property
    def catalogue(self) -> tuple[Category, ...]:
        """The categories of the pack's own edition."""
        return self.standards.categories

    @cached_property
    def records(self) -> dict[str, tuple[Division, ...]]:
        """The records of every code in order of time."""
        found: dict[str, list[Division]] = {}
        for division in sorted(self.divisions, key=lambda d: d.valid_from or date.min):
            found.setdefault(division.code, []).append(division)
        return {code: tuple(records) for code, records in found.items()}

    def division(self, code: str, day: date) -> Division | None:
        """The unit that had this code on that day."""
        return next((d for d in self.records.get(code, ()) if d.at(day)), None)

    def below(self, code: str, day: date) -> list[Division]:
        """The units right below on that day, in order of code."""
        return sorted((d for d in self.divisions if d.parent == code and d.at(day)), key=lambda d: d.code)

    def chain(self, code: str, day: date) -> tuple[str, ...]:
        """The divisions that one lies in: itself first, nearest first, up to the root.

        A code that the pack does not name, such as a community's, is shortened level by level until the pack knows it. One not in
        force on that day goes by its record nearest in time, so that the cases of an abolished unit still count above it.
        The chain ends early only where the pack knows nothing of a code.
        """
        found = [code]
        while code not in self.records:
            shorter = [n for n in self.lengths if n < len(code)]
            if not shorter:
                return tuple(found)
            code = code[: shorter[-1]]
            found.append(code)
        while parent := self.nearest(code, day).parent:
            found.append(parent)
            code = parent
        return tuple(found)

    def nearest(self, code: str, day: date) -> Division:
        """The record of a known code that held on that day or, failing that, nearest to it. Raises KeyError."""
        return min(self.records[code], key=lambda d: d.away(day))


def load(folder: Path) -> Pack:
    """Read and check a whole pack. Raises PackError."""
    about = _About.read(folder / "pack.toml")
    divisions = read_divisions(folder / "divisions.csv")
    standards = read_catalogue(folder, *about.catalogue())
    if not any(d.code == about.code and d.parent is None for d in divisions):
        raise PackError(folder / "pack.toml", "top level", "code", "is no unit without parent in divisions.csv")
    return Pack(
        code=about.code,
        name=about.both("name"),
        note=about.both("note"),
        zone=about.zone(),
        edition=about.text("edition"),
        sources=(*about.texts("sources"), *standards.sources),
        lengths=about.lengths(),
        groups=about.groups(),
        divisions=divisions,
        standards=standards,
        cells=CellIndex(read_cells(folder / "cells.geojson", divisions)),
        boundaries=about.boundaries(frozenset(d.code for d in divisions)),
    )


@dataclass(frozen=True, slots=True)
class _About:
    """The values of pack.toml; a table inside a table is named with a dot."""

    file: Path
    values: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> _About:
        try:
            return cls(file, tomllib.loads(content(file)))
        except tomllib.TOMLDecodeError as error:
            raise PackError(file, "whole file", "TOML", str(error)) from None

    @property
    def code(self) -> str:
        return self.text("code")

    def wrong(self, table: str | None, name: str, reason: str) -> PackError:
        return PackError(self.file, f"[{table}]" if table else "top level", name, reason)

    def value(self, name: str, table: str | None = None) -> Any:
        inside: Any = self.values
        for step in table.split(".") if table else ():
            inside = inside.get(step) if isinstance(inside, dict) else None
        return inside.get(name) if isinstance(inside, dict) else None

    def text(self, name: str, table: str | None = None) -> str:
        value = self.value(name, table)
        if not isinstance(value, str) or not value:
            raise self.wrong(table, name, "must be a text that is not empty")
        return value

    def both(self, table: str) -> Text:
        return Text(self.text("zh", table), self.text("en", table))

    def texts(self, name: str, table: str | None = None) -> tuple[str, ...]:
        value = self.value(name, table)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise self.wrong(table, name, "must be a list of texts that are not empty")
        return tuple(value)

    def zone(self) -> str:
        name = self.text("zone")
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            raise self.wrong(None, "zone", f"no time zone is called {name!r}") from None
        return name

    def lengths(self) -> tuple[int, ...]:
        value = self.value("lengths", "codes")
        if not isinstance(value, list) or not value or not all(type(v) is int and v > 0 for v in value):
            raise self.wrong("codes", "lengths", "must be a list of numbers of digits")
        if value != sorted(set(value)):
            raise self.wrong("codes", "lengths", "must rise from level to level")
        return tuple(value)

    def groups(self) -> frozenset[str]:
        return frozenset(self.texts("groups", "codes") if self.value("groups", "codes") is not None else ())

    def catalogue(self) -> tuple[str, tuple[str, ...], str]:
        """(code of its edition, by default the pack's own; where it comes from; edition of the legacy codes)."""
        table = "catalogue"
        known = {name for name in ("edition", "sources", "legacy") if self.value(name, table) is not None}
        edition = self.text("edition", table if "edition" in known else None)
        if not EDITION.fullmatch(edition):
            raise self.wrong(table, "edition", f"has 1 to 40 letters, digits or . _ : / -, not {edition!r}")
        sources = self.texts("sources", table) if "sources" in known else ()
        return edition, sources, self.text("legacy", table) if "legacy" in known else ""

    def boundaries(self, codes: frozenset[str]) -> Boundaries | None:
        """Where outlines come from; a pack may name no file and then has only what its cells and points give."""
        table = "boundaries"
        if table not in self.values:
            return None
        package = self.text("package", table) if self.value("package", table) is not None else None
        crs = self.text("crs", table)
        if crs not in CRS:
            raise self.wrong(table, "crs", f"must be one of {', '.join(CRS)}, not {crs!r}")
        try:
            files = tuple(located(self.file.parent, package, name) for name in self.texts("files", table))
        except (OSError, ImportError) as error:
            raise self.wrong(table, "package" if isinstance(error, ImportError) else "files", str(error)) from None
        prefix = self.text("prefix", table) if self.value("prefix", table) is not None else ""
        return Boundaries(
            files, self.text("key", table), prefix, crs, self.both(f"{table}.source"), self.both(f"{table}.note"), codes
        )
