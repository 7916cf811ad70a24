"""Reads the files of a pack, so that every mistake is named by file, place and field."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from shared.errors import Invalid

T = TypeVar("T")
CRS = ("OGC:CRS84", "EPSG:4326", "EPSG:4490")
"""WGS 84 and CGCS2000, which differ by centimetres. An offset one such as GCJ-02 would put points into wrong cells unseen."""


class PackError(Invalid):
    """A file of a pack cannot be used; the text names file, place and field."""

    code = "pack"

    def __init__(self, file: Path, place: str, field: str, reason: str) -> None:
        super().__init__(f"{file.name}, {place}, {field}: {reason}", field=field, file=file.name, place=place)


@dataclass(frozen=True, slots=True)
class Row:
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


def rows(file: Path, fields: tuple[str, ...]) -> Iterator[Row]:
    """The lines of a CSV file with at least these columns. Raises PackError."""
    reader = csv.reader(content(file).splitlines(keepends=True), strict=True)
    try:
        head = next(reader, [])
        if missing := [f for f in fields if f not in head]:
            raise PackError(file, "line 1", missing[0], f"the column is missing; there are: {', '.join(head)}")
        for values in reader:
            if len(values) != len(head):
                raise PackError(file, f"line {reader.line_num}", "row", f"has {len(values)} fields, the head {len(head)}")
            yield Row(file, reader.line_num, dict(zip(head, values, strict=True)))
    except csv.Error as error:
        raise PackError(file, f"line {reader.line_num}", "CSV", str(error)) from None


def content(file: Path) -> str:
    """The text of a UTF-8 file. Raises PackError."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PackError(file, "whole file", "file", error.strerror or "cannot be read") from None
    except UnicodeDecodeError as error:
        raise PackError(file, f"byte {error.start}", "file", "is not UTF-8") from None


def collection(file: Path) -> dict[str, Any]:
    """A GeoJSON FeatureCollection in one of the CRS; its features may be anything. Raises PackError."""
    try:
        found = orjson.loads(content(file))
    except orjson.JSONDecodeError as error:
        raise PackError(file, f"line {error.lineno}", "JSON", error.msg) from None
    if not isinstance(found, dict) or not isinstance(found.get("features"), list):
        raise PackError(file, "whole file", "features", "must be the list of a GeoJSON FeatureCollection")
    if (named := crs_of(found)) not in CRS:
        raise PackError(file, "whole file", "crs", f"must be one of {', '.join(CRS)}, not {named}")
    return found


def crs_of(found: dict[str, Any]) -> str:
    """The CRS that a collection names, as AUTHORITY:CODE; without the old `crs` member a GeoJSON is in WGS 84."""
    member = found.get("crs")
    if member is None:
        return CRS[0]
    properties = member.get("properties") if isinstance(member, dict) else None
    name = str(properties.get("name")) if isinstance(properties, dict) else str(member)
    authority, _, code = name.removeprefix("urn:ogc:def:crs:").partition(":")
    return f"{authority}:{code.rpartition(':')[2]}"
