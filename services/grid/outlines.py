"""The map right below a node: which units it shows and the ground of each, as GeoJSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import shapely
from shapely import MultiPoint
from shapely.geometry import mapping

from services.grid.domain import Area, Division
from services.grid.packs import Pack
from services.grid.simplify import simplified
from shared.settings import Below, Node

HALF = 0.05
"""Degrees from the point of a unit without outline to the sides of the square that stands for it."""


@dataclass(frozen=True)
class Unit:
    """A unit on the map; an area that the pack does not name has no names."""

    code: str
    name_zh: str | None
    name_en: str | None
    node: bool


def collection(pack: Pack, node: Node, day: date) -> dict[str, Any]:
    """The units right below `node` on that day; those without any ground are named in `unlocated`."""
    units = list(_units(pack, node, day))
    ground = _ground(pack, node, day, units)
    if not ground and (areas := _areas(pack, node)):
        units, ground = [Unit(code, None, None, False) for code in areas], areas
    known = pack.boundaries.areas if pack.boundaries else {}
    drawn = ground | simplified({code: known[code] for code in ground if code in known})
    features = [
        {
            "type": "Feature",
            "properties": {
                "code": u.code, "name_zh": u.name_zh, "name_en": u.name_en, "kind": "node" if u.node else "division",
                "node": u.node, "approximate": u.code not in known,
            },
            "geometry": mapping(drawn[u.code]),
        }
        for u in sorted(units, key=lambda u: u.code) if u.code in drawn
    ]  # fmt: skip
    about = pack.boundaries
    return {
        "type": "FeatureCollection", "features": features, "unlocated": [u.code for u in units if u.code not in drawn],
        "note": _both(about.note if about else pack.note), "source": _both(about.source) if about else None,
        "source_crs": about.crs if about else None, "sources": list(pack.sources),
    }  # fmt: skip


def _both(text: Any) -> dict[str, str]:
    return {"zh": text.zh, "en": text.en}


def _units(pack: Pack, node: Node, day: date) -> Iterator[Unit]:
    """The divisions right below, and child nodes that are none of them.

    A code that only groups units gives way to those below it; so does a unit with a child node further down, since that node is
    what can be looked into.
    """
    children = {child.code: child for child in node.children()}
    inner = {code for child in children for code in (pack.chain(child, day)[1:] if child in pack.records else ())}
    shown: set[str] = set()
    ahead = pack.below(node.code, day)
    while ahead:
        division = ahead.pop(0)
        if division.code not in children and (division.code in pack.groups or division.code in inner):
            ahead = pack.below(division.code, day) + ahead
            continue
        shown.add(division.code)
        yield _named(division, children.get(division.code))
    for code, child in children.items():
        if code not in shown:
            yield Unit(code, child.names.zh, child.names.en, True)


def _named(division: Division, child: Below | None) -> Unit:
    if child:
        return Unit(child.code, child.names.zh, child.names.en, True)
    return Unit(division.code, division.name_zh, division.name_en, False)


def _ground(pack: Pack, node: Node, day: date, units: list[Unit]) -> dict[str, Area]:
    """The ground of each unit: its outline, else its cells, else a square around its point; none where there is nothing."""
    known = pack.boundaries.areas if pack.boundaries else {}
    found: dict[str, Area] = {}
    for unit in units:
        codes = {unit.code, *(b.code for b in node.subtree if unit.code in b.route)}
        if area := known.get(unit.code) or _of_cells(pack, codes, day) or _of_points(pack, codes, day):
            found[unit.code] = area
    return found


def _of_cells(pack: Pack, codes: set[str], day: date) -> Area | None:
    divisions = {d for d in pack.cells.divisions if codes & set(pack.chain(d, day))}
    shapes = [c.outline for c in pack.cells.cells if c.division in divisions]
    return shapely.union_all(shapes) if shapes else None


def _of_points(pack: Pack, codes: set[str], day: date) -> Area | None:
    records = [d for code in sorted(codes) if (d := pack.division(code, day))]
    points = [(d.lon, d.lat) for d in records if d.lon is not None and d.lat is not None]
    return MultiPoint(points).buffer(HALF, cap_style="square") if points else None


def _areas(pack: Pack, node: Node) -> dict[str, Area]:
    """Where no unit below is known by its ground: the cells inside the node, taken together by the next longer code."""
    longer = [n for n in pack.lengths if n > len(node.code)]
    shapes: dict[str, list[Area]] = {}
    for cell in pack.cells.cells:
        if longer and cell.division.startswith(node.code):
            shapes.setdefault(cell.division[: longer[0]], []).append(cell.outline)
    return {code: shapely.union_all(outlines) for code, outlines in shapes.items()}
