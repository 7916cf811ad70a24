"""Longer turns of a case over real HTTP: merged and parted, split, filed anew, reopened, asleep while its node was down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.case.stories import API, LAMPS, ROADS, Town, local, served_town, town, wall
from tests.served import refused


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from served_town(request, tmp_path_factory)


def test_a_node_that_was_down_on_the_day_wakes_what_slept(engine: Engine, tmp_path: Path) -> None:
    with town(tmp_path, engine) as place:
        case = place.reach("suspended")
    # From here on there is no node; it comes back three days after the day on which the case was to go on.
    with town(tmp_path, engine, local("10-23 09:00")) as place:
        until = time.monotonic() + 20
        while place.row(case)["state"] == "suspended" and time.monotonic() < until:
            time.sleep(0.02)
        row, last = place.row(case), place.timeline(case)[-1]
    assert (row["state"], wall(row["due_at"]), row["wakes_at"]) == ("dispatched", "10-22 09:20", None)
    assert (last["actor"], wall(last["at"]), wall(last["noted_at"])) == ("timer", "10-20 12:00", "10-23 09:00")


def test_what_is_merged_stands_still_and_goes_on_where_it_stood(place: Town) -> None:
    head, middle, case = place.reach("filed"), place.reach("filed"), place.reach("postpone_asked")
    place.done(case, "supervise", "leader")
    place.set("10-08 09:30")
    place.done(case, "merge", "dispatcher", into=middle)
    place.done(middle, "merge", "dispatcher", into=head)
    assert [place.row(c)["joined"] for c in (head, middle)] == [2, 1]
    for loop in (case, middle):
        refused(place.do(head, "merge", "dispatcher", into=loop), 422, "/into")
    refused(place.do(head, "merge", "dispatcher", into="nobody"), 404, "/into")
    refused(place.do(head, "merge", "dispatcher", into=place.reach("declined")), 409, "/into")
    place.set("10-08 15:00")
    place.done(case, "unmerge", "dispatcher")
    row = place.row(case)
    # From 09:30 to 15:00 are 3.5 hours of work: 40 minutes of them fit into Friday, the rest into Saturday, which is worked.
    assert (row["state"], row["before"], wall(row["due_at"])) == ("postpone_asked", "handling", "10-10 10:50")
    assert wall(row["reply_by"]) == "10-09 10:00" and place.told(case)[-2:] == ["unmerged", "resumed"]
    assert [place.row(c)["joined"] for c in (head, middle)] == [1, 0], "it was behind both"
    place.done(middle, "unmerge", "dispatcher")
    assert place.row(head)["joined"] == 0
    place.done(case, "deny", "department")
    assert place.row(case)["state"] == "handling"


def test_a_split_makes_cases_and_says_which_part_cannot_be(place: Town) -> None:
    case = place.reach("filed")
    place.set("09-30 17:15")
    wrong = [{"category": "E0106"}, {"category": "E0199"}]
    refused(place.do(case, "split", "dispatcher", parts=wrong), 422, "/parts/1/category")
    refused(place.do(case, "split", "dispatcher", parts=[{"lon": 0.0, "lat": 0.0}]), 422, "/parts/0/lon")
    refused(place.do(case, "split", "dispatcher", parts=[{"category": "E0106"}] * 10), 422, "/parts")
    place.done(case, "split", "dispatcher", parts=[{"category": "E0106", "text": "the other half"}, {"lon": 87.63, "lat": 43.75}])
    children = place.timeline(case)[-1]["detail"]["children"]
    rows = [place.row(child) for child in children]
    assert [(r["category"], r["parent"], r["state"], wall(r["late_at"])) for r in rows] == [
        ("E0106", case, "reported", "09-30 17:30"), ("E0105", case, "reported", "09-30 17:30"),
    ]  # fmt: skip
    assert (rows[1]["lon"], rows[1]["lat"]) == (87.63, 43.75) and place.told(children[0]) == ["reported", "linked"]
    assert place.row(case)["state"] == "filed"


def test_filed_anew_by_another_condition_the_handling_begins_anew(place: Town) -> None:
    place.set("09-30 17:00")
    case = place.report(category="E0103")
    place.done(case, "file", "shift_supervisor", condition="1")
    place.set("09-30 17:20")
    place.done(case, "dispatch", "dispatcher")
    assert wall(place.row(case)["due_at"]) == "10-08 17:20", "one work day"
    place.done(case, "ask_return", "department")
    place.done(case, "grant", "dispatcher")
    place.done(case, "send_back", "dispatcher")
    place.set("10-08 09:00")
    place.done(case, "file", "shift_supervisor", condition="2")
    assert wall(place.row(case)["due_at"]) == "10-12 09:00", "three work days, were it sent at once"
    place.set("10-08 10:00")
    place.done(case, "dispatch", "dispatcher")
    row = place.row(case)
    assert (row["limit"], wall(row["due_at"]), row["clocks"]["handling"].get("moves")) == ("3WD", "10-12 10:00", None)


def test_a_rule_that_dispatches_at_once_does_so_but_not_past_a_failed_check(place: Town) -> None:
    def routes(*rules: dict[str, Any]) -> None:
        client, boss = place.served.client, place.as_("administrator")
        edition = client.get(f"{API}/routing", headers=boss).json()["edition"]
        answer = client.put(f"{API}/routing", json={"edition": edition, "rules": list(rules)}, headers=boss)
        assert answer.status_code == 200, answer.text

    case = place.reach("failed")
    place.done(case, "send_back", "dispatcher")
    to_parks = {"id": "parks", "zh": "绿化", "en": "parks", "when": {"kind": "category", "among": ["E0105"]},
                "then": {"department": "parks"}, "automatic": True}  # fmt: skip
    routes(to_parks)
    try:
        place.set("10-08 16:00")
        assert place.done(case, "file", "shift_supervisor")["state"] == "filed", "another department needs a reason"
        fresh = place.report()
        found = place.done(fresh, "file", "shift_supervisor")
        assert (found["state"], found["department"], found["version"]) == ("dispatched", "parks", 3)
        assert [(s["action"], s["actor"]) for s in place.timeline(fresh)] == [
            ("file", "the shift_supervisor"), ("dispatch", "rule:parks"),
        ]  # fmt: skip
    finally:
        routes()


def test_a_reporter_reopens_within_the_time_set(place: Town) -> None:
    place.set("09-30 17:00")
    case, code = place.cited()
    refused(place.mine(code, "reopening", opinion="still there"), 409, "/action")
    for action, role in (("ask_verification", "acceptor"), ("verify", "collector"), ("file", "shift_supervisor"),
                         ("dispatch", "dispatcher"), ("handle", "department"), ("ask_check", "acceptor"),
                         ("pass_check", "checker"), ("close", "shift_supervisor")):  # fmt: skip
        place.done(case, action, role)
    for action in ("reopen", "withdraw"):
        refused(place.do(case, action, "shift_supervisor", "acceptor", "administrator"), 403 if action == "reopen" else 409)
    place.clock.at = local("10-15 17:00").replace(second=1)
    late = refused(place.mine(code, "reopening", opinion="still there"), 409, "/action")
    assert "the time for reopening ended 15 days after the closing" in late["detail"]
    place.set("10-15 17:00")
    refused(place.mine(code, "reopening", opinion=""), 422, "/opinion")
    assert place.mine(code, "reopening", opinion="still there").status_code == 200
    row = place.row(case)
    assert (row["state"], row["reopenings"], row["on_time"], row["ended_at"], wall(row["late_at"])) == (
        "accepted", 1, None, None, "10-15 17:15",
    )  # fmt: skip
    place.done(case, "file", "shift_supervisor")
    place.done(case, "dispatch", "dispatcher")
    assert wall(place.row(case)["due_at"]) == "10-19 17:00", "the department has its whole limit once more"
    guilty = refused(place.mine(code, "withdrawal"), 409, "/action")
    assert guilty["state"] == "dispatched"


def test_self_handling_is_no_case_of_a_department(place: Town) -> None:
    place.set("09-30 17:00")
    refused(place.post("acceptor", self_handled=True), 403)
    refused(place.post("collector", self_handled=True, channel="hotline"), 403)
    case = place.reach("self_handled")
    refused(place.do(case, "file", "shift_supervisor"), 409, "/action")
    place.done(case, "grant", "acceptor")
    assert place.told(case) == ["reported", "stage-ended", "self-handled"] and place.row(case)["filed_at"] is None
    refused(place.do(case, "appeal", "department"), 409, "/action")


def test_a_whole_life_with_a_return_a_rework_and_two_failed_checks(place: Town) -> None:
    case = place.reach("returned")
    place.set("09-30 17:50")
    place.done(case, "dispatch", "dispatcher", department=ROADS)
    assert wall(place.row(case)["due_at"]) == "10-09 17:50"
    for fed_back, back in (("10-08 09:00", "10-08 11:00"), ("10-08 16:00", "10-09 09:00")):
        place.set(fed_back)
        place.done(case, "handle", "department", of=ROADS, name="the roads")
        place.done(case, "ask_check", "acceptor")
        place.set(back)
        place.done(case, "fail_check", "checker")
        place.done(case, "dispatch", "dispatcher", department=ROADS)
    # Left on Friday at 9: 17:50 less 9:00 of the first deadline, and 2 and 3 hours of work while others looked at it.
    assert wall(place.row(case)["due_at"]) == "10-10 14:50"
    place.set("10-10 14:50")
    place.done(case, "handle", "department", of=ROADS, name="the roads")
    place.done(case, "rework", "dispatcher")
    place.done(case, "handle", "department", of=ROADS, name="the roads")
    place.done(case, "ask_check", "acceptor")
    place.done(case, "pass_check", "checker")
    assert place.done(case, "close", "shift_supervisor")["on_time"] is True, "the last moment is on time"
    assert place.told(case).count("reworked") == 3 and place.told(case).count("dispatched") == 4
    row = place.row(case)
    assert row["returned_by"] == [LAMPS] and row["hands"] == ["the roads"]
