"""Duplicates: found by kind, place and time; merged and parted again without a loss; joined by a reporter; split."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from services.case.duplicates import DEGREE, Where, behind, metres, near
from services.case.policy import policies
from shared.clock import unstamp
from shared.errors import Conflict, Invalid, NotFound
from tests.case.clerks import Office

PART = "9901010100000001"


@pytest.fixture
def office(engine: Engine) -> Office:
    return Office(engine)


def found(office: Office, category: str = "E0101", lon: float = 1.0, lat: float = 1.0, **more: Any) -> list[str]:
    with office.engine.connect() as connection:
        return [r["id"] for r in near(connection, office.around, Where(category, lon, lat, office.clock(), **more))]


def test_the_likeliest_comes_first(office: Office) -> None:
    far = office.report(lon=1.0 + 40 / DEGREE, lat=1.0)
    close = office.report(lon=1.0 + 10 / DEGREE, lat=1.0)
    beyond = office.report(lon=1.0, lat=1.0 + 51 / DEGREE)
    other_kind = office.report("P0101")
    office.clock.pass_(12)
    fresh = office.report(lon=1.0 + 30 / DEGREE, lat=1.0)
    assert found(office) == [fresh, close, far]
    assert found(office, "P0101") == [other_kind] and found(office, lat=1.0 + 51 / DEGREE) == [beyond]
    assert found(office, but=fresh) == [close, far]
    office.clock.pass_(12.1)
    assert found(office) == [fresh]
    office.do(fresh, "refuse")
    assert found(office) == []


def test_a_part_counts_more_than_its_place(office: Office) -> None:
    lamp = office.report(part=PART)
    office.clock.pass_(24 * 30)
    beside = office.report(lon=2.0, lat=2.0)
    assert found(office, lon=2.0, lat=2.0, part=PART) == [lamp, beside] and found(office, lon=2.0, lat=2.0) == [beside]


def test_distance_and_time_are_the_categorys(office: Office) -> None:
    case = office.report(lon=1.0 + 300 / DEGREE, lat=1.0)
    office.clock.pass_(100)
    assert found(office) == []
    for n, key in enumerate(("*", "E01", "E0101"), 1):
        body = {"duplicates": {key: {"metres": 301, "hours": 100.1}, **({"*": {"metres": 1, "hours": 1}} if n > 1 else {})}}
        with office.tx() as tx:
            row = {"edition": n, "body": body, "changed_at": "2026", "changed_by": "x"}
            tx.execute(insert(policies), row)
            office.around.policy.changed(tx.connection)
        assert found(office) == [case], key


@given(st.floats(-60, 60), st.floats(0, 2 * 3.14159), st.floats(0, 500))
def test_metres(lat: float, bearing: float, distance: float) -> None:
    north = distance * math.cos(bearing) / DEGREE
    east = distance * math.sin(bearing) / (DEGREE * math.cos(math.radians(lat + north / 2)))
    assert metres(10.0, lat, 10.0 + east, lat + north) == pytest.approx(distance, abs=0.01)


def test_merging_stops_the_clocks_and_undoing_it_lets_them_go_on(office: Office) -> None:
    head, case = office.report(), office.report()
    office.lead(case, "file", "dispatch")
    before = office.row(case)
    office.clock.pass_(1)
    row = office.do(case, "merge", into=head)
    assert (row["state"], row["merged_into"], row["warn_at"]) == ("merged", head, None)
    assert office.row(head)["joined"] == 1 and office.row(head)["version"] == 1
    with office.engine.connect() as connection:
        assert [r["id"] for r in behind(connection, head)] == [case]
    office.clock.pass_(5)
    row = office.do(case, "unmerge")
    assert (row["state"], row["merged_into"], row["ended_at"], row["before"]) == ("dispatched", None, None, before["before"])
    assert unstamp(row["due_at"]) == unstamp(before["due_at"]) + timedelta(hours=5)
    assert office.row(head)["joined"] == 0
    assert office.facts(case)[-3:] == ["merged", "unmerged", "resumed"]
    assert office.lead(case, "handle")["on_time"] is None and office.row(case)["state"] == "handled"


def test_a_chain_of_mergings_ends_in_the_last(office: Office) -> None:
    a, b, c = (office.report() for _ in range(3))
    office.do(a, "merge", into=b)
    office.do(b, "merge", into=c)
    assert office.row(c)["joined"] == 2
    d = office.report()
    assert office.do(d, "merge", into=a)["merged_into"] == c and office.row(c)["joined"] == 3
    for into, error in ((c, Invalid), (a, Invalid), (d, Invalid), ("nothing", NotFound)):
        with pytest.raises(error) as refused:
            office.do(c, "merge", into=into)
        assert refused.value.field == "/into"
    office.do(b, "unmerge")
    assert office.row(c)["joined"] == 1
    ended = office.report()
    office.do(ended, "refuse")
    with pytest.raises(Conflict) as late:
        office.do(c, "merge", into=ended)
    assert late.value.field == "/into" and office.row(c)["state"] == "reported"


def test_a_reporter_joins_instead_of_filing_again(office: Office) -> None:
    head = office.report()
    again = office.report(channel="public")
    assert office.do(again, "join", "reporter", into=head)["merged_into"] == head
    assert office.facts(again) == ["reported", "merged"]


def test_splitting_makes_a_case_of_each_part(office: Office) -> None:
    case = office.report(channel="hotline", text="a hole and a dark lamp")
    office.lead(case, "ask_verification", "verify")
    parts = [{"category": "P0101", "part": PART, "text": "the lamp"}, {"text": "the hole"}]
    office.do(case, "split", "acceptor", parts=parts)
    with office.engine.connect() as connection:
        rows = [dict(r) for r in connection.exec_driver_sql("SELECT * FROM case_cases ORDER BY number").mappings()]
    lamp, hole = rows[1:]
    assert [r["parent"] for r in rows] == [None, case, case] and [r["verified"] for r in rows] == ["exist"] * 3
    assert (lamp["category"], lamp["lon"], lamp["text"]) == ("P0101", 2.0, "the lamp")
    assert (hole["category"], hole["lon"], hole["channel"], hole["state"]) == ("E0101", 1.0, "hotline", "reported")
    assert office.facts(hole["id"]) == ["reported", "linked"] and office.row(case)["state"] == "reported"
    with pytest.raises(Invalid):
        office.do(case, "split", "acceptor", parts=[{"category": "X1"}])
    assert len(rows) == 3
