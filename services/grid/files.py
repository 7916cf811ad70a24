"""Reads the files of a pack, so that every mistake is named by file, place and field."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.errors import Invalid

T = TypeVar("T")
CRS = ("OGC:CRS84", "EPSG:4326", "EPSG:4490")
"""WGS 84 and CGCS2000, which differ by centimetres. An offset one such as GCJ-02 would put points into wrong cells unseen."""
DECODER = json.JSONDecoder()
SEPARATOR = re.compile(r"\s*(?:,\s*(?!\])|(?=\]))")


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


def features(file: Path, allowed: tuple[str, ...] = CRS) -> Iterator[Any]:
    """The features of a GeoJSON FeatureCollection in one of the CRS `allowed`; they may be anything. Raises PackError.

    One at a time, since a country's outlines as a whole would take a hundred megabytes.
    """
    text = content(file)
    begin = re.search(r'"features"\s*:\s*\[\s*', text)
    position = begin.end() if begin else len(text)
    try:
        while begin and text[position : position + 1] != "]":
            feature, position = DECODER.raw_decode(text, position)
            yield feature
            position = _after_comma(text, position)
        # What is left shows whether the list stood where it belongs, and names the CRS.
        rest = json.loads(text[: begin.end()] + text[position:]) if begin else json.loads(text)
    except json.JSONDecodeError as error:
        raise PackError(file, f"line {error.lineno}", "JSON", error.msg) from None
    if not isinstance(rest, dict) or rest.get("features") != []:
        raise PackError(file, "whole file", "features", "must be the list of a GeoJSON FeatureCollection")
    if "crs" in rest and (named := _crs(rest["crs"])) not in allowed:
        raise PackError(file, "whole file", "crs", f"must be one of {', '.join(allowed)}, not {named}")


def _after_comma(text: str, position: int) -> int:
    """Where the next feature begins or the list ends. Raises JSONDecodeError."""
    found = SEPARATOR.match(text, position)
    if found is None:
        raise json.JSONDecodeError("a comma or the end of the list is missing", text, position)
    return found.end()


def _crs(member: Any) -> str:
    """The CRS that the old `crs` member names, as AUTHORITY:CODE; without that member a GeoJSON is in WGS 84."""
    properties = member.get("properties") if isinstance(member, dict) else None
    name = str(properties.get("name")) if isinstance(properties, dict) else str(member)
    authority, _, code = name.removeprefix("urn:ogc:def:crs:").partition(":")
    return f"{authority}:{code.rpartition(':')[2]}"
