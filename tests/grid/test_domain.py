"""Which cell a point belongs to, and which unit held on a day."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.grid.domain import CellIndex, Division
from shared.errors import Invalid


def feature(code: str, west: float, south: float, size: float = 1.0) -> dict[str, Any]:
    east, north = west + size, south + size
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "properties": {"code": code, "division": code[:2]},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


BLOCK = [feature(f"10{row}{column}", column, row) for row in range(3) for column in range(3)]


def code_at(index: CellIndex, lon: float, lat: float) -> str | None:
    cell = index.locate(lon, lat)
    return cell.code if cell else None


def test_a_point_inside_belongs_to_the_cell_around_it() -> None:
    cell = CellIndex.from_features(BLOCK).locate(1.5, 0.5)
    assert cell is not None
    assert (cell.code, cell.division) == ("1001", "10")


def test_a_point_outside_belongs_to_no_cell() -> None:
    assert CellIndex.from_features(BLOCK).locate(3.01, 1) is None
    assert CellIndex([]).locate(0, 0) is None


@pytest.mark.parametrize(
    ("lon", "lat", "code"), [(1, 0.5, "1000"), (0.5, 1, "1000"), (1, 1, "1000"), (2, 2, "1011"), (3, 3, "1022")]
)
def test_a_border_point_belongs_to_the_covering_cell_with_the_smallest_code(lon: float, lat: float, code: str) -> None:
    assert code_at(CellIndex.from_features(BLOCK), lon, lat) == code


@given(st.permutations(BLOCK), st.integers(0, 6), st.integers(0, 6))
def test_the_answer_does_not_depend_on_the_order_of_the_file(shuffled: list[dict[str, Any]], x: int, y: int) -> None:
    assert code_at(CellIndex.from_features(shuffled), x / 2, y / 2) == code_at(CellIndex.from_features(BLOCK), x / 2, y / 2)


def test_of_overlapping_cells_the_smallest_code_wins() -> None:
    index = CellIndex.from_features([feature("1009", 0, 0, 2), feature("1008", 1, 1, 2)])
    assert code_at(index, 1.5, 1.5) == "1008"
    assert code_at(index, 0.5, 0.5) == "1009"


def test_a_hole_is_outside() -> None:
    holed = feature("1001", 0, 0, 3)
    holed["geometry"]["coordinates"].append([[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]])
    index = CellIndex.from_features([holed])
    assert index.locate(1.5, 1.5) is None
    assert code_at(index, 1, 1.5) == "1001"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"properties": None}, "properties"),
        ({"properties": {"code": "", "division": "10"}}, "properties.code"),
        ({"properties": {"code": "1001"}}, "properties.division"),
        ({"geometry": None}, "geometry"),
        ({"geometry": {"type": "Point", "coordinates": [1, 1]}}, "geometry"),
        ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1]]]}}, "geometry"),
        ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}}, "geometry"),
    ],
)
def test_a_feature_that_is_no_cell_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        CellIndex.from_features([{**feature("1001", 0, 0), **change}])
    assert caught.value.field == field


def unit(since: date | None, until: date | None) -> Division:
    return Division("1000", None, "甲", "A", "x", None, None, since, until)


def test_a_unit_and_its_successor_never_hold_on_the_same_day() -> None:
    change = date(2015, 3, 1)
    before, after = unit(None, change), unit(change, None)
    assert [(before.at(d), after.at(d)) for d in (date(2015, 2, 28), change)] == [(True, False), (False, True)]
    assert not before.overlaps(after)
    assert not after.overlaps(before)
    assert unit(date(2015, 2, 28), None).overlaps(before)
