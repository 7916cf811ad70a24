"""What the grid knows: which unit held on which day, and the one cell that a point belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Self, TypeAlias

from shapely import STRtree
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon, Point, Polygon, shape
from shapely.validation import explain_validity

from shared.errors import Invalid

Area: TypeAlias = Polygon | MultiPolygon


@dataclass(frozen=True, slots=True)
class Text:
    """A text in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Division:
    """An administrative unit as it stood in one period; a renamed unit has one record a period, all with the same code."""

    code: str
    parent: str | None
    name_zh: str
    name_en: str
    level_label: str
    lon: float | None
    lat: float | None
    valid_from: date | None
    valid_to: date | None

    def at(self, day: date) -> bool:
        """Whether it held on that day. Half-open, so that a unit and its successor never hold on the same day."""
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)

    def away(self, day: date) -> int:
        """How many days that day lies outside its period; 0 inside."""
        if self.valid_from is not None and day < self.valid_from:
            return (self.valid_from - day).days
        return 0 if self.valid_to is None or day < self.valid_to else (day - self.valid_to).days + 1

    def overlaps(self, other: Division) -> bool:
        """Whether both hold on some day."""
        return _before(self.valid_from, other.valid_to) and _before(other.valid_from, self.valid_to)


def _before(start: date | None, end: date | None) -> bool:
    return start is None or end is None or start < end


HOURS = {"UH": 1, "WH": 1, "UD": 24, "WD": 24, "ND": 24}
"""Elapsed hours of a limit's unit, where nobody asks a calendar: a rough measure for lists and made-up cases."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A filing condition 立案条件 of a category: its limit such as 2WD, when it counts as closed, and who is responsible."""

    code: str
    zh: str
    en: str
    limit: str
    closing_zh: str
    closing_en: str
    department: str
    helping: tuple[str, ...]
    basis: str
    grade: str


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of problem with its filing conditions, the first of which counts where nobody names one."""

    code: str
    kind: str
    name_zh: str
    name_en: str
    edition: str
    valid_from: date | None
    conditions: tuple[Condition, ...]

    @property
    def limit_hours(self) -> int:
        """The first condition's limit in elapsed hours."""
        limit = self.conditions[0].limit
        return int(limit[:-2]) * HOURS[limit[-2:]]

    def at(self, day: date) -> bool:
        """Whether it may be used on that day."""
        return self.valid_from is None or self.valid_from <= day


@dataclass(frozen=True, slots=True)
class Cell:
    """The smallest piece of ground that is managed, in the division it belongs to."""

    code: str
    division: str
    outline: Area

    @classmethod
    def of(cls, feature: Mapping[str, Any]) -> Self:
        """Build from a GeoJSON feature. Raises Invalid naming the member at fault."""
        properties = feature.get("properties") if isinstance(feature, Mapping) else None
        if not isinstance(properties, Mapping):
            raise Invalid("must be an object", field="properties")
        return cls(_text(properties, "code"), _text(properties, "division"), _outline(feature.get("geometry")))


def _text(properties: Mapping[str, Any], name: str) -> str:
    value = properties.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid("must be a text that is not empty", field=f"properties.{name}")
    return value


def area(geometry: Any) -> Area:
    """The ground that a GeoJSON geometry covers. Raises Invalid."""
    try:
        found = shape(geometry)
    except (ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Invalid(f"cannot be read as an outline: {error}", field="geometry") from None
    if not isinstance(found, Area) or found.is_empty:
        raise Invalid("must be a Polygon or MultiPolygon that is not empty", field="geometry")
    return found


def _outline(geometry: Any) -> Area:
    found = area(geometry)
    if not found.is_valid:
        # A self-crossing ring makes containment depend on the library; better to stop than to give an arbitrary answer.
        raise Invalid(f"is not a valid outline: {explain_validity(found)}", field="geometry")
    return found


class CellIndex:
    """Finds the cell of a point.

    The rule: of the cells that cover the point, border included, it belongs to the one with the smallest code. So a border point
    belongs to exactly one cell, the same at every node and after every rebuild.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        # Sorted by code, the smallest position found is the smallest code.
        self.cells = tuple(sorted(cells, key=lambda cell: cell.code))
        self.divisions = tuple(sorted({cell.division for cell in self.cells}))
        self._tree = STRtree([cell.outline for cell in self.cells])

    @classmethod
    def from_features(cls, features: Iterable[Mapping[str, Any]]) -> Self:
        """Build from GeoJSON features. Raises Invalid naming the member at fault."""
        return cls(Cell.of(feature) for feature in features)

    def locate(self, lon: float, lat: float) -> Cell | None:
        """The cell that the point belongs to, None when it lies outside all of them."""
        found = self._tree.query(Point(lon, lat), predicate="covered_by")
        return self.cells[min(found)] if len(found) else None
