"""Thins outlines that meet one another for a picture: shared borders stay shared, specks join the unit around them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import shapely
from shapely import MultiPolygon, Polygon, STRtree

from services.grid.domain import Area

PIXELS = 1500
"""A picture is seldom drawn wider; what is smaller than one of its pixels cannot be seen."""


def simplified(areas: Mapping[str, Area]) -> dict[str, Area]:
    """The same units with the detail that a picture of them all needs; in degrees, rounded to a hundredth of a pixel."""
    if not areas:
        return {}
    west, south, east, north = shapely.total_bounds(list(areas.values()))
    pixel = max(east - west, north - south) / PIXELS
    whole = absorbed(areas, (2 * pixel) ** 2)
    digits = math.ceil(-math.log10(pixel)) + 2
    thin = shapely.coverage_simplify(list(whole.values()), pixel)
    return dict(zip(whole, (rounded(area, digits) for area in thin), strict=True))


def rounded(area: Area, digits: int) -> Area:
    """Every coordinate rounded alike, so that a border shared by two units stays shared."""
    result: Area = shapely.transform(area, lambda points: points.round(digits))
    # Rounding may close a narrow neck; readers of GeoJSON refuse a ring that touches itself.
    return result if result.is_valid else shapely.make_valid(result, method="structure")


def absorbed(areas: Mapping[str, Area], smallest: float) -> dict[str, Area]:
    """Detached pieces under `smallest` square degrees become part of the neighbour that surrounds most of them.

    Leaving them out would tear holes. The largest piece of a unit stays, and so does a piece without neighbour (an island).
    """
    pieces = [(code, piece) for code, area in areas.items() for piece in shapely.get_parts(area)]
    largest = {code: max(shapely.get_parts(area), key=shapely.area) for code, area in areas.items()}
    specks = [(c, p) for c, p in pieces if p.area < smallest and p is not largest[c] and not p.equals(largest[c])]
    apart = {id(p) for _, p in specks}
    kept = [(c, p) for c, p in pieces if id(p) not in apart]
    tree = STRtree([p for _, p in kept])
    parts: dict[str, list[Polygon]] = {code: [] for code in areas}
    for code, piece in kept:
        parts[code].append(piece)
    for code, speck in specks:
        parts[_around(speck, kept, tree) or code].append(speck)
    ground = STRtree([p for _, p in pieces])
    return {code: filled(shapely.union_all(found), smallest, ground) for code, found in parts.items()}


def filled(area: Area, smallest: float, ground: STRtree) -> Area:
    """The area without holes under `smallest` in which no unit of the picture lies."""

    def matters(hole: Polygon) -> bool:
        return bool(hole.area >= smallest or len(ground.query(hole.representative_point(), predicate="within")))

    rings = [(p.exterior, [r for r in p.interiors if matters(Polygon(r))]) for p in shapely.get_parts(area)]
    polygons = [Polygon(shell, holes) for shell, holes in rings]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def _around(speck: Polygon, kept: list[tuple[str, Polygon]], tree: STRtree) -> str | None:
    shared = {i: kept[i][1].boundary.intersection(speck.boundary).length for i in tree.query(speck, predicate="intersects")}
    best = max(shared, key=lambda i: shared[i], default=None)
    return kept[best][0] if best is not None and shared[best] > 0 else None
