"""Each of the 33 transitions over real HTTP on both databases: state, clocks to the minute, facts and timeline after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.case import domain
from tests.case.stories import Town, local, served_town, wake, wall
from tests.case.transitions import BESIDE, TRANSITIONS, Transition

INSTANTS = ("filed_at", "due_at", "handled_at", "ended_at", "warn_at", "late_at", "reply_by", "wakes_at")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    yield from served_town(request, tmp_path_factory)


def effects(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """What a step did to each clock that it touched, in the words of `Transition`."""
    return {stage: _effect(before.get(stage), now) for stage, now in after.items() if now != before.get(stage)}


def _effect(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    last = (now.get("moves") or [{}])[-1].get("code") if before is None or now.get("moves") != before.get("moves") else None
    if "ended" in now:
        return "end"
    if before is None or now["began"] != before["began"]:
        return f"start {wall(now['due'])}"
    if "held" in now:
        return "hold"
    return f"{'moved' if last == 'extended' else 'resume'} {wall(now['due'])}"


def test_every_number_is_here() -> None:
    assert {t.number for t in TRANSITIONS} == set(range(2, 34)), "the first is the report itself"
    taken = {(t.source.split()[0], t.action) for t in (*TRANSITIONS, *BESIDE)}
    known = {(s.source, s.action) for s in domain.WORKFLOW}
    assert taken - {("returned", "dispatch"), ("failed", "dispatch")} <= known


def test_1_a_report_starts_the_acceptance(place: Town) -> None:
    place.set("09-30 17:00")
    for role, more in (("collector", {}), ("acceptor", {"channel": "hotline"}), ("leader", {"channel": "leader"})):
        case = place.report(role, **more)
        row = place.row(case)
        assert (row["state"], row["version"], row["stage"], wall(row["late_at"])) == ("reported", 1, "acceptance", "09-30 17:15")
        assert wall(row["warn_at"]) == "09-30 17:12" and place.told(case) == ["reported"] and place.timeline(case) == []
        assert effects({}, row["clocks"]) == {"acceptance": "start 09-30 17:15"}


@pytest.mark.parametrize("what", [*TRANSITIONS, *BESIDE], ids=str)
def test_transition(place: Town, what: Transition) -> None:
    case = place.reach(what.source)
    place.set(what.at)
    before, said = place.row(case), place.told(case)
    answer = place.done(case, what.action, what.role, **what.said)
    after, steps = place.row(case), place.timeline(case)
    assert (after["state"], after["version"], answer["state"]) == (what.target, before["version"] + 1, what.target)
    assert effects(before["clocks"], after["clocks"]) == what.clocks
    assert tuple(place.told(case)[len(said) :]) == what.facts
    shown = answer | {name: wall(after[name]) for name in INSTANTS} | {k: after[k] for k in after.keys() - {*INSTANTS, "clocks"}}
    assert {name: shown[name] for name in what.row} == what.row
    last = steps[-1]
    assert [s["version"] for s in steps] == list(range(2, after["version"] + 1))
    assert (last["action"], last["source"], last["target"], wall(last["at"]), last["roles"]) == (
        what.action, before["state"], what.target, what.at, what.role,
    )  # fmt: skip
    assert last["opinion"] == "because" and last["actor"] in (f"the {what.role}", "wang")
    assert {s for s, e in what.clocks.items() if e == "end"} == {s for s in last["clock"] or {} if s != "moved_to"}


def test_the_time_used_of_a_limit_is_stated_in_its_own_kind_of_time(place: Town) -> None:
    case = place.reach("closed")
    ended = {f["stage"]: f for f in place.facts(case) if f["fact"] == "stage-ended"}
    used = {stage: (fact["seconds"], fact["on_time"]) for stage, fact in ended.items()}
    # The handling: 40 minutes on Wednesday, none in seven holidays, 5 hours on Thursday less the noon.
    assert used == {
        "acceptance": (300, True), "filing": (300, True), "dispatch": (600, True), "handling": (20400, True),
        "check": (1200, True), "closing": (600, True),
    }  # fmt: skip


def test_lights_turn_to_the_minute(place: Town) -> None:
    case = place.reach("handling")
    for at, light in (("09-30 17:31", "green"), ("10-07 12:00", "green"), ("10-09 14:08", "green"), ("10-09 14:09", "yellow"),
                      ("10-09 17:20", "yellow"), ("10-09 17:21", "red")):  # fmt: skip
        place.set(at)
        found = place.get(case)
        assert found["light"] == light, at
    (handling,) = (c for c in found["clocks"] if c["stage"] == "handling")
    assert handling["left_seconds"] == -60 and "2 work days" in handling["explained"]["en"]


def test_a_suspended_case_wakes_by_itself_on_its_day(place: Town) -> None:
    case = place.reach("suspended")
    place.set("10-20 11:59")
    wake(place)
    assert place.row(case)["state"] == "suspended"
    # The node was down for three days over its moment: the clock goes on from the moment, not from when somebody looked.
    place.clock.at = local("10-23 09:00")
    wake(place)
    row, last = place.row(case), place.timeline(case)[-1]
    assert (row["state"], wall(row["due_at"]), row["wakes_at"]) == ("dispatched", "10-22 09:20", None)
    assert (last["action"], last["actor"], wall(last["at"]), wall(last["noted_at"])) == (
        "resume", "timer", "10-20 12:00", "10-23 09:00",
    )  # fmt: skip
    assert place.told(case)[-1] == "resumed" and place.get(case)["light"] == "red"


def test_the_page_tells_the_table() -> None:
    """docs/WORKFLOW.md has each row of the table with its roles and its target, and no other; many sources may share a line."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "WORKFLOW.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    by_number = {(c[1], c[2]): (c[0], c[3], c[4]) for c in lines if len(c) == 6 and c[0].isdigit()}
    wide = {"any before the end": (*domain.BEFORE_FILING, *domain.FILED), "any filed": domain.FILED,
            "any before filing": domain.BEFORE_FILING}  # fmt: skip
    told = {(s, action) for sources, action in by_number for s in wide.get(sources, (sources,))}
    told |= {(s, c[1]) for c in lines if len(c) == 4 for s in wide.get(c[0], c[0].split(", "))}
    no_rows = {("–", "the report itself"), ("from", "action"), ("---", "---")}
    assert told - no_rows == {(s.source, s.action) for s in domain.WORKFLOW}
    assert {int(number) for number, _, _ in by_number.values()} == set(range(1, 34))
    for step in domain.WORKFLOW:
        if found := by_number.get((step.source, step.action)):
            assert set(found[1].split(", ")) == step.roles - {"integrator"}, step
            assert found[2] == step.target
    assert {(what.number, what.action) for what in TRANSITIONS} <= {(int(n), a) for (_, a), (n, _, _) in by_number.items()} | {
        (15, "dispatch"), (27, "dispatch"),
    }  # fmt: skip
