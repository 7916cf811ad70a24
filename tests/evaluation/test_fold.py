"""How facts become cases and totals, on both databases: cut up in any way, late, twice, or not the origin's to state."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from contracts.case import CaseClosed, CaseDispatched, CaseFact, CaseHandled, CaseRated, CaseRefused, CaseReworked
from deploy.migrate import migrate
from services.evaluation.handlers import READER, fold
from services.evaluation.recount import recount
from services.evaluation.tables import cases, totals
from shared.clock import stamp
from shared.database import open_engine
from shared.reader import Apply, Reader, Unknown, Wrong
from tests.evaluation.lives import heard, sealed, tables, told_by
from tests.evaluation.steps import ended, filed, minute, reported, row, sums, tell
from tests.evaluation.walks import BEGIN, ORIGINS, told


def test_it_does_not_matter_how_a_log_is_cut(engine: Engine, tmp_path: Path) -> None:
    log = {origin: told_by(origin, 40, seed=2) for origin in ORIGINS}
    heard(engine, log, 10_000)
    for size in (1, 7, 64):
        other = open_engine(f"sqlite:///{tmp_path}/{size}.db")
        migrate(other)
        heard(other, log, size)
        assert tables(other) == tables(engine), size
        other.dispose()
    assert recount(engine) == [] and len(tables(engine)["cases"]) == 160


def test_every_step_shows_in_its_case(engine: Engine) -> None:
    """Step by step, a fact a commit: what the case says then, and what is counted."""
    told_ = [
        (reported(), {"state": "reported", "open": False, "reported_at": stamp(BEGIN), "due_at": None, "filed_at": None}),
        (filed(), {"state": "filed", "open": True, "filed_at": stamp(minute(1)), "due_at": stamp(minute(60))}),
        (told(CaseDispatched, "a", minute(2), department="lamps"), {"state": "dispatched", "department": "lamps", "open": True}),
        (told(CaseHandled, "a", minute(3)), {"state": "handled", "handled_at": stamp(minute(3)), "open": True}),
        (told(CaseReworked, "a", minute(4)), {"state": "dispatched", "handled_at": None, "open": True, "department": "lamps"}),
        (told(CaseHandled, "a", minute(70)), {"state": "handled", "handled_at": stamp(minute(70)), "ended_at": None}),
        (told(CaseClosed, "a", minute(71), on_time=False, opened="2026-03-01"),
         {"state": "closed", "open": False, "on_time": False, "seconds": 71 * 60, "ended_at": stamp(minute(71))}),
    ]  # fmt: skip
    for fact, expected in told_:
        tell(engine, fact)
        found = row(engine)
        assert {k: found[k] for k in expected} == expected
    assert sums(engine) == {"reported": 1, "filed": 1, "closed": 1, "reworked": 1}
    assert row(engine)["origin"] == "650102" and row(engine)["provenance"] == "live"


def test_a_refusal_ends_a_report_and_counts_nothing_else(engine: Engine) -> None:
    tell(engine, reported("a"), told(CaseRefused, "a", minute(5), reason="duplicate"), reported("b"), filed("b"))
    tell(engine, told(CaseRefused, "b", minute(9), reason="other"))
    for case, at in (("a", 5), ("b", 9)):
        found = row(engine, case)
        assert (found["state"], found["open"], found["ended_at"], found["seconds"]) == ("refused", False, stamp(minute(at)), None)
    assert sums(engine) == {"reported": 2, "refused": 2, "filed": 1}


def test_instants_that_run_backwards_are_taken_as_they_were_stated(engine: Engine) -> None:
    """The origin vouches for its instants; a case that ends before it began stays visible as what it is."""
    tell(engine, reported(at=100), filed(at=50, due=20), *ended(at=40))
    assert (row(engine)["seconds"], row(engine)["state"]) == (-60 * 60, "closed")
    tell(engine, reported("b", at=0), *ended("b", at=0), filed("b", at=0))
    assert (row(engine, "b")["state"], row(engine, "b")["open"]) == ("filed", True), "the order of the log, not of the clock"
    assert sums(engine) == {"reported": 2, "filed": 2, "closed": 2, "closed_on_time": 2}


def test_a_day_is_the_day_at_the_origin(engine: Engine) -> None:
    late = reported().model_copy(update={"day": "2026-03-02"})
    tell(engine, late, filed())
    with engine.begin() as c:
        found = {(r.day, r.reported, r.filed) for r in c.execute(select(totals))}
    assert found == {("2026-03-02", 1, 0), ("2026-03-01", 0, 1)}


@pytest.mark.parametrize("together", [True, False])
def test_what_is_not_the_origins_to_state(engine: Engine, together: bool) -> None:
    """A step of a case that was never reported, or by another; a report of a case that is there: nothing of that batch counts."""
    tell(engine, reported("mine"), filed("mine"))
    tell(engine, reported("theirs"), origin="650103")
    before = tables(engine)
    lies: list[list[CaseFact]] = [
        [filed("nobody")], [filed("theirs")], [*ended("theirs")], [told(CaseRefused, "theirs", minute(1), reason="other")],
        [told(CaseRated, "theirs", minute(1), score=1, by="visit")], [told(CaseRated, "nobody", minute(1), score=1, by="visit")],
        [reported("theirs")], [reported("mine")], [reported("new"), reported("new")], [filed("new"), reported("new")],
    ]  # fmt: skip
    for lie in lies:
        with pytest.raises(Unknown):
            tell(engine, *([reported("good"), filed("good"), *lie] if together else lie))
        assert tables(engine) == before, lie
    for lie in lies:
        entries, chains = sealed("650102", [*([reported("good")] if together else []), *lie])
        assert isinstance(Reader(READER, engine, fold).apply("650102/case", entries, chains[-1]), Wrong)
        assert tables(engine) == before


def test_what_is_read_counts_once(engine: Engine) -> None:
    entries, chains = sealed("650102", [reported(), filed(), *ended()])
    reader = Reader(READER, engine, fold)
    for start, end in ((0, 2), (0, 2), (1, 3), (0, 5), (2, 5), (0, 5)):
        reader.apply("650102/case", entries[start:end], chains[end - 1])
    assert sums(engine) == {"reported": 1, "filed": 1, "closed": 1, "closed_on_time": 1}
    assert isinstance(reader.apply("650102/case", [entries[4]._replace(seq=6)], b"x" * 32), Wrong)


def test_a_change_is_told_by_when_it_was_learnt(engine: Engine) -> None:
    """Whoever asks for changes since an hour must not miss an old step that arrives late."""
    tell(engine, reported("a"), reported("b"))
    first = row(engine, "a")["changed_at"]
    assert first == row(engine, "b")["changed_at"] > stamp(BEGIN)
    tell(engine, filed("a"))
    second = row(engine, "a")["changed_at"]
    assert second > first == row(engine, "b")["changed_at"]
    tell(engine, told(CaseRated, "a", minute(9), score=1, by="visit"))
    assert row(engine, "a")["changed_at"] == second, "nothing of it changed"


def test_many_cases_in_one_batch(engine: Engine) -> None:
    """More than are looked up at once, and each a step in the next batch."""
    names = [f"c{n:04d}" for n in range(1203)]
    tell(engine, *(reported(n) for n in names))
    dice = random.Random(1)
    shuffled = dice.sample(names, len(names))
    tell(engine, *(filed(n) for n in shuffled), *(f for n in names[:7] for f in ended(n)))
    assert sums(engine) == {"reported": 1203, "filed": 1203, "closed": 7, "closed_on_time": 7}
    with engine.begin() as c:
        assert len(c.execute(select(cases.c.id).where(cases.c.open)).all()) == 1196
    assert isinstance(Reader(READER, engine, fold).apply("650103/case", *_one("650103")), Apply)


def _one(origin: str) -> tuple[Any, bytes]:
    entries, chains = sealed(origin, [reported("z")])
    return entries, chains[-1]
