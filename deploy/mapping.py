"""Turns rows of a public record of cases into the events that a county's own platform would have pushed."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

import pyarrow.parquet as parquet
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from shapely.geometry import Point

from services.grid.domain import Cell
from shared.errors import Invalid

PREFIX = "cn.sanji.platform.case."
BATCH = 1000
TRIES = 32
FOLDER = Path(__file__).resolve().parent / "mappings"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Columns(_Strict):
    """Which column of the file holds what; a field without column is absent from the record."""

    id: str
    created_at: str
    status: str
    category: str
    due_at: str | None = None
    closed_at: str | None = None
    lon: str | None = None
    lat: str | None = None

    def named(self) -> dict[str, str]:
        return {field: column for field, column in self.model_dump().items() if column is not None}


class Refused(_Strict):
    """A status that says that the report was not accepted, and why."""

    refused: str


class Mapping(_Strict):
    """How one record is read: its columns, its zone, its words of status and its categories, the first pattern that fits."""

    dataset: str = Field(pattern=r"^[0-9A-Za-z._:-]{1,80}$")
    zone: str
    columns: Columns
    status: dict[str, Literal["open", "closed"] | Refused]
    categories: tuple[tuple[str, str], ...]

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            raise ValueError(f"no time zone is called {name!r}") from None
        return name

    @field_validator("categories")
    @classmethod
    def _covers_all(cls, rules: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        if [pattern for pattern, _ in rules[-1:]] != ["*"]:
            raise ValueError("the last pattern must be '*', so that no value is left without category")
        return rules

    @classmethod
    def of(cls, file: Path) -> Self:
        """The mapping that comes with Sanji for a record of this name. Raises Invalid where there is none."""
        path = FOLDER / f"{file.stem}.yaml"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
            raise Invalid(f"no mapping is called {file.stem}; name one with --mapping, or rename the file to: {known}")
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a mapping. Raises Invalid naming file and field."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "whole file"
            raise Invalid(f"{path.name}, {field}: {first['msg']}", field=field) from None
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise Invalid(f"{path.name}, whole file: {error}") from None

    def category(self, value: object) -> str:
        """Our code for the record's own category."""
        text = "" if value is None else str(value)
        return next(code for pattern, code in self.categories if fnmatchcase(text, pattern))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replayed case is put."""

    county: str
    lon: float
    lat: float


def rows(path: Path, mapping: Mapping) -> Iterator[dict[str, Any]]:
    """The rows of a CSV or Parquet file, one batch in memory at a time, under the mapping's field names.

    Columns that the mapping does not name are never read: what might say something about a person stays in the file.
    Raises Invalid for a column that is not there.
    """
    columns = mapping.columns.named()
    found = _parquet(path, columns) if path.suffix == ".parquet" else _csv(path, columns)
    for row in found:
        yield {field: row[column] for field, column in columns.items()}


def _parquet(path: Path, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    with parquet.ParquetFile(path) as file:
        _require(path, columns, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=BATCH, columns=sorted(set(columns.values()))):
            yield from batch.to_pylist()


def _csv(path: Path, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _require(path, columns, reader.fieldnames or ())
        for row in reader:
            # CSV has no null; an empty field is the only way to say that there is no value.
            yield {name: value or None for name, value in row.items()}


def _require(path: Path, columns: dict[str, str], there: Iterable[str]) -> None:
    names = set(there)
    for field, column in columns.items():
        if column not in names:
            raise Invalid(f"{path.name}: there is no column {column!r} for {field}", field=f"columns.{field}")


def events(row: Map[str, Any], mapping: Mapping, place: Place | None) -> list[dict[str, Any]]:
    """The CloudEvents of one row, in the order they happened; without `place` the row's own point is kept.

    A value that is wrong is passed on as it is: the server refuses it and names the field, as it would to any platform.
    """
    word = mapping.status.get(str(row["status"]), row["status"])
    created, closed = _instant(row["created_at"], mapping.zone), _instant(row.get("closed_at"), mapping.zone)
    told = [_event(row, mapping, "reported", created, _reported(row, mapping, place))]
    if isinstance(word, Refused):
        return [*told, _event(row, mapping, "refused", closed or created, {"reason": word.refused})]
    due = _instant(row.get("due_at"), mapping.zone)
    told.append(_event(row, mapping, "filed", created, {} if due is None else {"due": due}))
    if word != "open":
        # A word that the mapping does not know becomes an event type that the server does not know, and so is not lost.
        told.append(_event(row, mapping, str(word), closed, {}))
    return told


def _reported(row: Map[str, Any], mapping: Mapping, place: Place | None) -> dict[str, Any]:
    point = (place.lon, place.lat) if place else (_number(row.get("lon")), _number(row.get("lat")))
    return {
        "category": mapping.category(row["category"]),
        "lon": point[0],
        "lat": point[1],
        "channel": "platform",
        # A record that stays at its own place is history of that place; one that was put elsewhere only plays it.
        "provenance": "replayed" if place else "imported",
        "dataset": mapping.dataset,
    }


def _event(row: Map[str, Any], mapping: Mapping, step: str, time: object, data: dict[str, Any]) -> dict[str, Any]:
    case = str(row["id"])
    return {
        "specversion": "1.0",
        "id": f"{case}:{step}",
        "source": f"urn:import:{mapping.dataset}",
        "type": f"{PREFIX}{step}.v1",
        "time": time,
        "subject": case,
        "data": data,
    }


def _instant(value: object, zone: str) -> object:
    """RFC 3339 in UTC of a civil time; what is no time is returned as it is.

    An hour that came twice means its first pass (fold=0); one that was skipped is read with the offset from before the change,
    which moves it forward by the size of the gap.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, datetime):
        return value
    aware = value.replace(tzinfo=ZoneInfo(zone), fold=0) if value.tzinfo is None else value
    return aware.astimezone(UTC).isoformat()


def _number(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def place(case_id: str, counties: Map[str, Sequence[Cell]]) -> Place:
    """A county and a point inside one of its cells, the same for a case on every machine and in every run."""
    codes = sorted(code for code, cells in counties.items() if cells)
    if not codes:
        raise Invalid("there is no county with cells to put cases in")
    county = codes[int(_share(case_id, "county") * len(codes))]
    cells = sorted(counties[county], key=lambda cell: cell.code)
    lon, lat = _inside(cells[int(_share(case_id, "cell") * len(cells))], case_id)
    return Place(county, lon, lat)


def _inside(cell: Cell, case_id: str) -> tuple[float, float]:
    west, south, east, north = cell.outline.bounds
    for attempt in range(TRIES):
        lon = round(west + _share(case_id, f"lon{attempt}") * (east - west), 6)
        lat = round(south + _share(case_id, f"lat{attempt}") * (north - south), 6)
        if cell.outline.contains(Point(lon, lat)):
            return lon, lat
    # A sliver fills so little of its box that trying may fail; this point always lies inside.
    point = cell.outline.representative_point()
    return point.x, point.y


def _share(case_id: str, purpose: str) -> float:
    """A number in [0, 1) from the case's id; 53 bits, since more would round up to 1."""
    digest = hashlib.sha256(f"{purpose}\0{case_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53
