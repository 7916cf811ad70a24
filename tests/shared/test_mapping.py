"""A public record becomes events: categories, instants, refusals and places, from small files and from the whole record."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from shapely.geometry import Point, Polygon

from deploy.mapping import Mapping, Place, events, place, rows
from services.grid.domain import Cell
from services.grid.packs import load
from shared.errors import Invalid

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT.parent / "shared" / "data" / "cases" / "baltimore_2014_2019.parquet"
GIVEN = Mapping.load(ROOT / "deploy" / "mappings" / "baltimore_2014_2019.yaml")
PACK = load(ROOT / "deploy" / "packs" / "xinjiang")

SMALL = """
dataset: small
zone: America/New_York
columns: {id: nr, created_at: opened, due_at: due, closed_at: done, status: state, category: what, lon: x, lat: y}
status: {open: open, closed: closed, double: {refused: duplicate}}
categories: [["Dirty Alley*", E0112], ["Dirty*", E0104], ["*", E9999]]
"""
HEAD = "nr,opened,due,done,state,what,x,y,caller\n"


@pytest.fixture
def small(tmp_path: Path) -> Mapping:
    (tmp_path / "small.yaml").write_text(SMALL)
    return Mapping.load(tmp_path / "small.yaml")


def row(**given: Any) -> dict[str, Any]:
    base = {"id": "7", "created_at": "2019-01-02 10:00:00", "due_at": None, "closed_at": None, "status": "open"}
    return {**base, "category": "Dirty Alley", "lon": 1.5, "lat": 2.5, **given}


def told(found: list[dict[str, Any]]) -> list[tuple[str, Any, dict[str, Any]]]:
    return [(e["type"].removeprefix("cn.sanji.platform.case."), e["time"], e["data"]) for e in found[1:]]


def test_a_closed_case_is_reported_filed_and_closed(small: Mapping) -> None:
    found = events(
        row(status="closed", due_at="2019-01-05 10:00:00", closed_at="2019-07-01 10:00:00"), small, Place("10", 80.5, 40.5)
    )
    assert found[0] == {
        "specversion": "1.0",
        "id": "7:reported",
        "source": "urn:import:small",
        "type": "cn.sanji.platform.case.reported.v1",
        "time": "2019-01-02T15:00:00+00:00",
        "subject": "7",
        "data": {
            "category": "E0112",
            "lon": 80.5,
            "lat": 40.5,
            "channel": "platform",
            "provenance": "replayed",
            "dataset": "small",
        },
    }
    assert told(found) == [
        ("filed.v1", "2019-01-02T15:00:00+00:00", {"due": "2019-01-05T15:00:00+00:00"}),
        ("closed.v1", "2019-07-01T14:00:00+00:00", {}),
    ]
    assert [e["id"] for e in found] == ["7:reported", "7:filed", "7:closed"]


def test_an_open_case_is_reported_and_filed(small: Mapping) -> None:
    assert told(events(row(), small, None)) == [("filed.v1", "2019-01-02T15:00:00+00:00", {})]


def test_a_duplicate_is_refused_when_it_was_closed_or_else_at_once(small: Mapping) -> None:
    done = events(row(status="double", closed_at="2019-01-03 10:00:00"), small, None)
    assert told(done) == [("refused.v1", "2019-01-03T15:00:00+00:00", {"reason": "duplicate"})]
    assert told(events(row(status="double"), small, None)) == [
        ("refused.v1", "2019-01-02T15:00:00+00:00", {"reason": "duplicate"})
    ]


@pytest.mark.parametrize(
    ("civil", "instant"),
    [
        ("2019-11-03 01:30:00", "2019-11-03T05:30:00+00:00"),  # came twice: the first pass
        ("2019-03-10 02:30:00", "2019-03-10T07:30:00+00:00"),  # was skipped: 03:30 after the change
        (datetime(2019, 3, 10, 3, 30), "2019-03-10T07:30:00+00:00"),
        (datetime(2019, 11, 3, 1, 30, fold=1), "2019-11-03T05:30:00+00:00"),
        ("2019-01-02T10:00:00+08:00", "2019-01-02T02:00:00+00:00"),
    ],
)
def test_civil_times_become_instants(small: Mapping, civil: object, instant: str) -> None:
    assert events(row(created_at=civil), small, None)[0]["time"] == instant


def test_what_is_wrong_is_passed_on_as_it_is(small: Mapping) -> None:
    found = events(row(created_at="yesterday", lon="east", lat=None, status="lost", due_at="soon"), small, None)
    assert (found[0]["time"], found[0]["data"]["lon"], found[0]["data"]["lat"]) == ("yesterday", "east", None)
    assert told(found) == [("filed.v1", "yesterday", {"due": "soon"}), ("lost.v1", None, {})]


def test_the_first_fitting_pattern_decides(small: Mapping) -> None:
    assert [small.category(v) for v in ("Dirty Alley Proactive", "Dirty Wall", "dirty", None)] == [
        "E0112",
        "E0104",
        "E9999",
        "E9999",
    ]


def test_a_csv_is_read_lazily_and_without_other_columns(small: Mapping, tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    file.write_text(HEAD + "7,2019-01-02 10:00:00,,,open,Dirty Alley,1.5,2.5,somebody\n" + "8,,,,,,,,\n" * 5000)
    first = next(rows(file, small))
    assert first == row(lon="1.5", lat="2.5")
    assert events(first, small, None)[0]["data"]["lon"] == 1.5
    assert sum(1 for _ in rows(file, small)) == 5001


def test_a_parquet_is_read_like_a_csv(small: Mapping, tmp_path: Path) -> None:
    columns = small.columns.named()
    table = {columns[field]: [value] * 2500 for field, value in row(created_at=datetime(2019, 1, 2, 10)).items()}
    parquet.write_table(arrow.table({**table, "caller": ["somebody"] * 2500}), tmp_path / "cases.parquet")
    found = list(rows(tmp_path / "cases.parquet", small))
    assert len(found) == 2500
    assert found[2499] == row(created_at=datetime(2019, 1, 2, 10))


@pytest.mark.parametrize("name", ["cases.csv", "cases.parquet"])
def test_a_missing_column_is_named(small: Mapping, tmp_path: Path, name: str) -> None:
    (tmp_path / "cases.csv").write_text("nr\n7\n")
    parquet.write_table(arrow.table({"nr": ["7"]}), tmp_path / "cases.parquet")
    with pytest.raises(Invalid, match="no column 'opened' for created_at"):
        next(rows(tmp_path / name, small))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("America/New_York", "Mars/Base", "zone: "),
        ('["*", E9999]', '["?", E9999]', "categories: .*the last pattern must be"),
        ("id: nr, ", "", r"columns\.id: "),
        ("open: open", "open: ajar", r"status\.open"),
        ("zone:", "zone: [", "whole file: "),
    ],
)
def test_a_bad_mapping_is_refused_by_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(Invalid, match=rf"^bad\.yaml, {said}"):
        Mapping.load(tmp_path / "bad.yaml")


def test_a_place_is_the_same_every_time_and_inside_its_cell() -> None:
    counties = {
        c: [cell for cell in PACK.cells.cells if cell.code.startswith(c)] for c in ("650102", "650103", "654002", "654003")
    }
    reversed_ = {c: counties[c][::-1] for c in reversed(counties)}
    found = [place(f"14-{n:08}", counties) for n in range(2000)]
    assert found == [place(f"14-{n:08}", reversed_) for n in range(2000)]
    cells = [PACK.cells.locate(p.lon, p.lat) for p in found]
    assert all(cell and cell.code.startswith(p.county) for cell, p in zip(cells, found, strict=True))
    assert min(Counter(p.county for p in found).values()) > 400
    assert len({cell.code for cell in cells if cell}) == 144
    # Written down, so that a replay years later puts the case where it was.
    assert place("14-00000116", counties) == Place(county="650103", lon=87.488194, lat=43.732164)


def test_a_place_in_a_sliver_is_inside_and_no_county_is_an_error() -> None:
    sliver = Cell("1001", "10", Polygon([(0, 0), (1, 1), (1, 1 + 1e-7)]))
    found = place("7", {"10": [sliver], "11": []})
    assert sliver.outline.contains(Point(found.lon, found.lat))
    with pytest.raises(Invalid, match="no county with cells"):
        place("7", {"11": []})


def test_the_given_mapping_uses_only_categories_of_the_pack() -> None:
    assert {code for _, code in GIVEN.categories} - {c.code for c in PACK.catalogue} == set()


def test_the_whole_record_becomes_events() -> None:
    if not RECORD.exists():
        pytest.skip("the development data beside the checkout is absent")
    found = list(rows(RECORD, GIVEN))
    values = {str(r["category"]) for r in found}
    assert (len(found), len(values)) == (10_000, 231)
    used = {next(p for p, _ in GIVEN.categories if fnmatchcase(v, p)) for v in values}
    assert used == {p for p, _ in GIVEN.categories}, "a pattern that decides nothing is a slip of the pen"
    steps = Counter(e["type"].split(".")[-2] for r in found for e in events(r, GIVEN, None))
    assert steps == {"reported": 10_000, "filed": 9_765, "closed": 9_567, "refused": 235}
    reasons = Counter(e["data"]["reason"] for r in found for e in events(r, GIVEN, None) if "reason" in e["data"])
    assert reasons == {"duplicate": 217, "transferred": 18}
    assert all(e["time"].endswith("+00:00") for r in islice(found, 500) for e in events(r, GIVEN, None))
