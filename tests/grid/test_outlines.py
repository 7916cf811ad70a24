"""What a map shows: shared borders stay shared, specks join their neighbour, units without outline get the next best ground."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import Polygon, box
from shapely.geometry import mapping, shape

from services.grid.outlines import collection
from services.grid.packs import load
from services.grid.simplify import PIXELS, absorbed, simplified
from shared.settings import Below, Broker, Names, Node
from tests.grid.test_packs import FILES, TOML

DAY = date(2025, 1, 1)
BOUNDARIES = (
    '[boundaries]\nfiles = ["map.geojson"]\nkey = "id"\nprefix = "x"\ncrs = "EPSG:4326"\n'
    '[boundaries.source]\nzh = "源"\nen = "source"\n[boundaries.note]\nzh = "注"\nen = "note"\n'
)
HEAD = "code,parent,name_zh,name_en,level_label,lon,lat,valid_from,valid_to\n"
DIVISIONS = (
    "10,,甲,A,a,,,,\n"
    "1001,10,乙,B,b,0.5,0.5,,\n1002,10,丙,C,b,1.5,0.5,,\n1003,10,丁,D,b,2.5,0.5,,\n1004,10,戊,E,b,,,,\n1009,10,组,G,b,,,,\n"
    "1091,1009,己,F,c,3.5,0.5,,\n1092,1009,庚,H,c,4.5,0.5,,2020-01-01\n"
)


def feature(area: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": mapping(area)}


def below(code: str, parent: str, *route: str) -> Below:
    return Below(code=code, parent=parent, names=Names(zh=f"{code}号", en=f"No. {code}"), zone="UTC", route=(*route, code))


def node(code: str, *subtree: Below) -> Node:
    broker = Broker(url="", user="", password="", monitor="")
    return Node(
        code=code, names=Names(zh="甲", en="A"), zone="UTC", calendar="none", path=(code,), subtree=subtree,
        database_url="sqlite://", broker=broker, port=1, pack=Path(), secrets=Path(),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack whose boundary file knows 1001 and 1091; 1002 has cells, 1003 a point, 1004 nothing; 1009 groups."""
    about = TOML.replace('"1000"', '"10"').replace("[4, 6]", '[2, 4, 6]\ngroups = ["1009"]') + BOUNDARIES
    cells = [feature(box(1, 0, 2, 1), code=f"10020{n}1", division=f"10020{n}") for n in (1, 2)]
    outlines = [feature(box(0, 0, 1, 1), id="x1001"), feature(box(3, 0, 4, 1), id="x1091"), feature(box(0, 0, 9, 9), id="y1002")]
    texts = {
        **FILES, "pack.toml": about, "divisions.csv": HEAD + DIVISIONS,
        "cells.geojson": orjson.dumps({"features": cells}).decode(), "map.geojson": orjson.dumps({"features": outlines}).decode(),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def shown(folder: Path, here: Node) -> dict[str, tuple[str, bool, tuple[float, ...]]]:
    """(kind, approximate, bounds) of every unit on the map."""
    found = collection(load(folder), here, DAY)
    return {
        f["properties"]["code"]: (f["properties"]["kind"], f["properties"]["approximate"], shape(f["geometry"]).bounds)
        for f in found["features"]
    }


def test_outline_then_cells_then_a_square_around_the_point(folder: Path) -> None:
    units = shown(folder, node("10", below("1002", "10")))
    assert units.pop("1003")[2] == pytest.approx((2.45, 0.45, 2.55, 0.55))
    assert units == {
        "1001": ("division", False, (0, 0, 1, 1)),
        "1002": ("node", True, (1, 0, 2, 1)),
        "1091": ("division", False, (3, 0, 4, 1)),
    }
    assert collection(load(folder), node("10"), DAY)["unlocated"] == ["1004"], "nothing is known of where it lies"


def test_a_unit_with_a_node_further_down_gives_way_to_what_lies_below_it(folder: Path) -> None:
    assert shown(folder, node("10", below("1091", "10")))["1091"][0] == "node"
    text = (folder / "divisions.csv").read_text(encoding="utf-8")
    (folder / "divisions.csv").write_text(text + "100105,1001,街,S,s,0.5,0.5,,\n", encoding="utf-8")
    units = shown(folder, node("10", below("100105", "10")))
    assert "1001" not in units and units["100105"][:2] == ("node", True)


def test_a_node_that_the_pack_does_not_know_is_where_the_nodes_below_it_are(folder: Path) -> None:
    units = shown(folder, node("10", below("77", "10"), below("1002", "77", "77")))
    assert units["77"] == ("node", True, (1, 0, 2, 1))


def test_where_the_pack_names_nothing_below_the_cells_show_their_divisions(folder: Path) -> None:
    found = collection(load(folder), node("1002"), DAY)
    assert [f["properties"] for f in found["features"]] == [
        {"code": code, "name_zh": None, "name_en": None, "kind": "division", "node": False, "approximate": True}
        for code in ("100201", "100202")
    ]


def test_note_and_source_come_from_the_setting_or_without_one_from_the_pack(folder: Path) -> None:
    with_file = collection(load(folder), node("10"), DAY)
    assert (with_file["note"]["en"], with_file["source"]["zh"], with_file["source_crs"]) == ("note", "源", "EPSG:4326")
    about = (folder / "pack.toml").read_text(encoding="utf-8")
    (folder / "pack.toml").write_text(about.replace(BOUNDARIES, ""), encoding="utf-8")
    without = collection(load(folder), node("10"), DAY)
    assert (without["note"]["en"], without["source"], without["source_crs"]) == ("example", None, None)
    assert all(f["properties"]["approximate"] for f in without["features"]), "all of it made of cells and points"


def ragged(points: list[float]) -> list[tuple[float, float]]:
    """A line from (5, 0) to (5, 10) that wavers by less than a unit."""
    return [(5, 0), *((5 + x, (i + 1) * 10 / (len(points) + 1)) for i, x in enumerate(points)), (5, 10)]


@given(st.lists(st.floats(-0.9, 0.9), min_size=1, max_size=60))
def test_a_border_that_two_units_share_stays_shared(points: list[float]) -> None:
    line = ragged(points)
    west, east = Polygon([(0, 0), *line, (0, 10)]), Polygon([(10, 0), *line, (10, 10)])
    thin = simplified({"w": west, "e": east})
    assert thin["w"].is_valid and thin["e"].is_valid
    assert shapely.coverage_is_valid(list(thin.values()))
    assert thin["w"].union(thin["e"]).equals(box(0, 0, 10, 10))


def test_detail_smaller_than_a_pixel_goes_and_larger_stays() -> None:
    fine = Polygon([(0, 0), *((i / 1000, 0.0005 * (i % 2)) for i in range(1, 1000)), (1, 0), (1, 1), (0, 1)])
    coarse = Polygon([(0, 0), *((i / 10, 0.05 * (i % 2)) for i in range(1, 10)), (1, 0), (1, 1), (0, 1)])
    assert 1 / PIXELS > 0.0005
    thin = simplified({"fine": fine, "coarse": shapely.affinity.translate(coarse, 0, 2)})
    assert shapely.get_num_coordinates(thin["fine"]) < 100
    assert shapely.get_num_coordinates(thin["coarse"]) == shapely.get_num_coordinates(coarse)


def test_specks_join_the_unit_around_them_and_holes_that_nobody_fills_close() -> None:
    speck, far, island = box(4, 4, 4.1, 4.1), box(20, 0, 22, 2), box(30, 0, 30.1, 0.1)
    empty, small = box(7, 7, 7.1, 7.1), box(1, 1, 1.1, 1.1)
    around = box(0, 0, 10, 10) - speck - empty - small
    found = absorbed({"around": around, "far": far | speck | island, "small": small}, 0.02)
    assert found["around"].equals(box(0, 0, 10, 10) - small), "the smallest unit keeps its ground"
    assert found["far"].equals(far | island), "an island has no neighbour that it could join"
    assert found["small"].equals(small)
    assert absorbed({"around": around, "far": far | speck | island, "small": small}, 0.005)["far"].equals(far | speck | island)
