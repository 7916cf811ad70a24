"""What each fact makes of a case and of the totals, on both databases; and that no order of facts counts anything twice."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from contracts.case import (
    CaseAccepted,
    CaseAmended,
    CaseAppealed,
    CaseClosed,
    CaseFact,
    CaseHandled,
    CaseMerged,
    CasePostponed,
    CaseRefused,
    CaseReopened,
    CaseReported,
    CaseResumed,
    CaseReturned,
    CaseReworked,
    CaseSelfHandled,
    CaseSuspended,
    CaseTaskAnswered,
    CaseTaskAsked,
    CaseUnmerged,
    CaseVoided,
    CaseWithdrawn,
    Place,
)
from deploy.migrate import migrate
from services.case import domain as workflow
from services.evaluation import domain
from services.evaluation.handlers import HEARS
from services.evaluation.recount import recount
from services.evaluation.tables import QUANTITIES, cases, totals
from shared.clock import stamp
from shared.database import open_engine
from tests.evaluation.lives import heard, tables
from tests.evaluation.steps import closed, dispatched, ended, filed, minute, reported, row, step, sums, tell
from tests.evaluation.walks import life

R, F, D, H = reported(), filed(), dispatched(due=90), step(CaseHandled, 30)
ONE = {"reported": 1, "filed": 1}
DAY = 1440
ASKED, BACK = step(CaseTaskAsked, 31, task="check"), {"state": "filed", "open": True, "due_at": None, "handled_at": None}
MERGED = step(CaseMerged, 3, into="b")
AMENDED = step(
    CaseAmended, 5, category="P0101", part="P1", place=Place(lon=1.0, lat=2.0, division="650102990002", cell="C9")
)  # fmt: skip
UNDONE = ("ended_at", "on_time", "seconds", "handled_at", "due_at")
LATE = [R, F, *ended(on_time=False)]


def answered(task: str, result: str) -> CaseFact:
    return step(CaseTaskAnswered, 40, task=task, result=result)


def back(origin: str, to: str) -> CaseFact:
    return step(CaseReturned, 50, origin=origin, to=to)


def unmerged(state: str) -> CaseFact:
    return step(CaseUnmerged, 9, state=state)


def appealed(result: str) -> CaseFact:
    return step(CaseAppealed, 2 * DAY, result=result)


def is_(state: str, is_open: bool, **more: Any) -> dict[str, Any]:
    return {"state": state, "open": is_open, **more}


TURNS: dict[str, tuple[list[CaseFact], dict[str, Any], dict[str, int]]] = {
    "reported": ([R], is_("reported", False, due_at=None, part=None, exempt=False), {"reported": 1}),
    "accepted": ([R, step(CaseAccepted, 1)], is_("accepted", False, ended_at=None), {"reported": 1}),
    "verification asked": ([R, step(CaseTaskAsked, 1, task="verification")], is_("verifying", False), {"reported": 1}),
    "exists": ([R, answered("verification", "exist")], is_("reported", False), {"reported": 1}),
    "does not exist": ([R, answered("verification", "not_exist")], is_("reported", False), {"reported": 1}),
    "verification recalled": ([R, answered("verification", "recalled")], is_("reported", False), {"reported": 1}),
    "refused": ([R, step(CaseRefused, 4, reason="other", stage="acceptance")], is_("refused", False, ended_at=stamp(minute(4))),
                {"reported": 1, "refused": 1}),
    "declined": ([R, step(CaseRefused, 4, reason="other", stage="filing")], is_("declined", False, ended_at=stamp(minute(4))),
                 {"reported": 1, "refused": 1}),
    "withdrawn": ([R, step(CaseWithdrawn, 4)], is_("withdrawn", False, ended_at=stamp(minute(4))), {"reported": 1}),
    "self-handled": ([R, step(CaseSelfHandled, 4)], is_("closed", False, ended_at=stamp(minute(4)), seconds=None, on_time=None),
                     {"reported": 1}),
    "filed": ([R, F], is_("filed", True, filed_at=stamp(minute(1)), due_at=stamp(minute(60))), ONE),
    "filed again": ([R, F, back("dispatch", "filing"), filed(at=DAY, due=DAY + 9)],
                    is_("filed", True, filed_at=stamp(minute(DAY)), due_at=stamp(minute(DAY + 9))), ONE),
    "void": ([R, F, step(CaseVoided, 4)], is_("void", False, ended_at=stamp(minute(4))), ONE),
    "dispatched": ([R, F, D], is_("dispatched", True, department="lamps", due_at=stamp(minute(90))), ONE),
    "dispatched without a deadline": ([R, F, dispatched()], is_("dispatched", True, due_at=stamp(minute(60))), ONE),
    "given back": ([R, F, D, back("handling", "dispatch")], BACK, ONE),
    "sent back behind the filing": ([R, F, back("dispatch", "filing")], is_("accepted", False, due_at=None), ONE),
    "sent back to acceptance": ([R, step(CaseAccepted, 1), back("filing", "acceptance")], is_("reported", False),
                                {"reported": 1}),
    "sent back from closing": ([R, F, D, H, back("closing", "dispatch")], BACK, ONE),
    "postponed": ([R, F, D, step(CasePostponed, 4, due=minute(500))], is_("dispatched", True, due_at=stamp(minute(500))), ONE),
    "suspended": ([R, F, D, step(CaseSuspended, 4, until=minute(500))], is_("suspended", True, due_at=None), ONE),
    "resumed": ([R, F, D, step(CaseSuspended, 4, until=minute(500)), step(CaseResumed, 5, due=minute(700))],
                is_("dispatched", True, due_at=stamp(minute(700))), ONE),
    "handled": ([R, F, D, H], is_("handled", True, handled_at=stamp(minute(30)), ended_at=None), ONE),
    "reworked twice": ([R, F, D, H, step(CaseReworked, 31), H, step(CaseReworked, DAY)],
                       is_("dispatched", True, handled_at=None), ONE | {"reworked": 2}),
    "check asked": ([R, F, D, H, ASKED], is_("checking", True), ONE),
    "check passed": ([R, F, D, H, ASKED, answered("check", "pass")], is_("checked", True, handled_at=stamp(minute(30))), ONE),
    "check not passed": ([R, F, D, H, ASKED, answered("check", "not_pass")], BACK, ONE),
    "cannot be checked": ([R, F, D, H, ASKED, answered("check", "unable")], is_("handled", True), ONE),
    "check recalled": ([R, F, D, H, ASKED, answered("check", "recalled")], is_("handled", True), ONE),
    "closed": ([R, F, *ended()], is_("closed", False, on_time=True, seconds=1800, ended_at=stamp(minute(30))),
               ONE | {"closed": 1, "closed_on_time": 1}),
    "closed by force": ([R, F, step(CaseClosed, 30, on_time=False, opened="2026-03-01", forced=True)],
                        is_("closed", False, on_time=False), ONE | {"closed": 1}),
    "appeal asked": ([*LATE, appealed("asked")], is_("closed", False, exempt=False), ONE | {"closed": 1}),
    "appeal denied": ([*LATE, appealed("denied")], is_("closed", False, exempt=False), ONE | {"closed": 1}),
    "appeal granted": ([*LATE, appealed("granted")], is_("closed", False, exempt=True, on_time=False),
                       ONE | {"closed": 1, "exempted": 1}),
    "reopened": ([*LATE, appealed("granted"), step(CaseReopened, 3 * DAY)],
                 is_("accepted", False, exempt=False, **dict.fromkeys(UNDONE)), ONE),
    "reopened and filed": ([*LATE, step(CaseReopened, DAY), filed(at=DAY)], is_("filed", True, ended_at=None), ONE),
    "merged": ([R, F, D, MERGED], is_("merged", False, ended_at=stamp(minute(3))), ONE),
    "unmerged": ([R, F, D, MERGED, unmerged("handling")], is_("dispatched", True, ended_at=None, due_at=stamp(minute(90))), ONE),
    "unmerged before filing": ([R, MERGED, unmerged("reported")], is_("reported", False, ended_at=None), {"reported": 1}),
    "amended": ([R, AMENDED], is_("reported", False, category="P0101", part="P1", division="650102990002", cell="C9", lon=1.0,
                                  lat=2.0), {"reported": 1}),
}  # fmt: skip
"""By name: facts, what the case then says, what the totals come to."""


@pytest.mark.parametrize("name", TURNS)
def test_what_each_fact_makes(engine: Engine, name: str) -> None:
    facts, expected, counted = TURNS[name]
    tell(engine, *facts)
    at_once = tables(engine)
    found = row(engine)
    assert {k: found[k] for k in expected} == expected and sums(engine) == counted
    # A fact a commit comes to the same.
    with engine.begin() as c:
        c.execute(cases.delete())
        c.execute(totals.delete())
    for fact in facts:
        tell(engine, fact)
    assert tables(engine) == at_once


def test_every_fact_that_is_heard_and_every_state_is_among_them() -> None:
    assert {type(f) for facts, _, _ in TURNS.values() for f in facts} == set(HEARS)
    assert {expected["state"] for _, expected, _ in TURNS.values()} == domain.STATES


def test_a_granted_appeal_and_a_reopening_count_on_the_day_of_the_closing(engine: Engine) -> None:
    tell(engine, R, F, closed(at=DAY, on_time=False), appealed("granted"), appealed("granted"))
    assert sums(engine, day="2026-03-01") == ONE and sums(engine, day="2026-03-02") == {"closed": 1, "exempted": 1}
    tell(engine, step(CaseReopened, 4 * DAY))
    assert sums(engine) == sums(engine, day="2026-03-01") == ONE
    with engine.begin() as c:
        assert {r.day for r in c.execute(select(totals))} == {"2026-03-01"}, "no day is left with nothing on it"
    tell(engine, filed(at=5 * DAY), closed(at=6 * DAY), appealed("granted"))
    assert sums(engine, day="2026-03-07") == {"closed": 1, "closed_on_time": 1}, "what was on time needs no exemption"
    assert sums(engine, day="2026-03-06") == {} and not row(engine)["exempt"]


def test_a_correction_takes_along_what_was_counted(engine: Engine) -> None:
    """Also what was counted before the case came back behind its filing, and nothing of other cases."""
    tell(engine, R, F, D, H, step(CaseReworked, DAY), H, closed(at=DAY), step(CaseReopened, 2 * DAY), reported("b"))
    tell(engine, AMENDED)
    assert sums(engine, category="E0101") == {"reported": 1}
    for day, counted in (("2026-03-01", ONE), ("2026-03-02", {"reworked": 1})):
        assert sums(engine, day=day, category="P0101", division="650102990002") == counted
    tell(engine, filed(at=3 * DAY), closed(at=4 * DAY))
    later = sums(engine, day="2026-03-05")
    assert later == sums(engine, day="2026-03-05", category="P0101") == {"closed": 1, "closed_on_time": 1}
    tell(engine, step(CaseAmended, 5 * DAY, category="E0101", place=Place(lon=1.0, lat=2.0, division="650102990002")))
    assert (row(engine)["part"], row(engine)["cell"]) == (None, None) and sums(engine, category="P0101") == {}


def test_a_case_that_was_merged_stands_where_it_stood() -> None:
    """By every name that the case service may give to a state in which cases are merged."""
    whole = domain.change(domain.reported("650102", R), F)  # type: ignore[arg-type]
    same = {state: state for state in domain.STATES}
    for state in (*workflow.BEFORE_FILING, *workflow.FILED):
        expected = same.get(state) or ("filed" if state == "void_asked" else "dispatched")
        found = domain.change(domain.change(whole, MERGED), unmerged(state))
        assert found["state"] == expected and found["open"] == (state in workflow.FILED), state


ODD = [
    AMENDED, step(CaseAccepted, 1), step(CaseTaskAsked, 1, task="verification"), ASKED, answered("verification", "exist"),
    *(answered("check", result) for result in ("pass", "not_pass", "unable", "exist")), F, filed(at=DAY),
    back("closing", "handling"), step(CaseRefused, 4, reason="other"), step(CaseRefused, DAY, reason="other", stage="filing"),
    step(CaseWithdrawn, 4), D, *(back("handling", to) for to in ("acceptance", "verification", "filing", "dispatch")),
    *(back("check", to) for to in ("check", "closing")), dispatched(),
    step(CaseVoided, 4), step(CasePostponed, 4, due=minute(500)), step(CaseSuspended, 4, until=minute(500)),
    step(CaseResumed, 5, due=minute(700)), H, step(CaseReworked, 31), step(CaseReworked, DAY), closed(), closed(at=DAY),
    closed(at=2 * DAY, on_time=False), closed(on_time=False), step(CaseSelfHandled, 4), appealed("asked"), appealed("granted"),
    appealed("denied"), step(CaseReopened, DAY), MERGED, *(unmerged(state) for state in ("closed", "handling", "merged", "odd")),
    step(CaseAmended, 5, category="E0101", place=Place(lon=1.0, lat=2.0, division="650102990001")),
]  # fmt: skip


LETTERS = {"R": "reported", "N": "refused", "F": "filed", "C": "closed", "T": "closed_on_time", "W": "reworked", "X": "exempted"}


def says(engine: Engine) -> Counter[tuple[str, ...]]:
    """What the cases say that they count for, read by hand."""
    found: Counter[tuple[str, ...]] = Counter()
    with engine.begin() as c:
        for r in c.execute(select(cases)).mappings():
            for n in range(0, len(r["counted"]), 11):
                name, day = LETTERS[r["counted"][n]], r["counted"][n + 1 : n + 11]
                found[(r["origin"], r["division"], r["category"], day, r["provenance"], name)] += 1
    return found


def check(engine: Engine) -> None:
    with engine.begin() as c:
        rows = c.execute(select(totals)).mappings().all()
    kept = {(*list(r.values())[:5], q): r[q] for r in rows for q in QUANTITIES if r[q]}
    assert kept == says(engine) and all(v > 0 for v in kept.values())
    assert all(any(r[q] for q in QUANTITIES) for r in rows), "a row with nothing in it"


@pytest.mark.parametrize("seed", range(4))
def test_facts_that_make_no_sense_never_count_twice(engine: Engine, tmp_path: Path, seed: int) -> None:
    """Any fact after any other: totals stay the sum of what the cases say, each of these at most one filing and one closing."""
    assert {type(f) for f in ODD} | {CaseReported} == set(HEARS)
    dice = random.Random(seed)
    log: dict[str, list[CaseFact]] = {"650102": [], "650103": []}
    for origin, told in log.items():
        names = [f"{origin}-{n}" for n in range(12)]
        told += [reported(name) for name in names]
        told += [dice.choice(ODD).model_copy(update={"case": dice.choice(names)}) for _ in range(300)]
    heard(engine, log, 11)
    check(engine)
    assert recount(engine) == []
    whole = sums(engine)
    assert whole["reported"] == 24 >= whole["filed"] and whole["refused"] <= 24
    assert 24 >= whole["closed"] >= whole["closed_on_time"] + whole.get("exempted", 0)
    other = open_engine(f"sqlite:///{tmp_path}/other.db")
    migrate(other)
    heard(other, log, 10_000)
    assert tables(other) == tables(engine)
    other.dispose()


def test_random_lives_count_what_their_cases_say(engine: Engine) -> None:
    dice = random.Random(7)
    heard(engine, {"650102": [fact for n in range(80) for fact in life(f"c{n}", "650102", dice)]}, 13)
    check(engine)
    assert recount(engine) == []
