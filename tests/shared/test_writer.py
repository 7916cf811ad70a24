"""Group commit on both databases: who fails, fails alone; what is answered is durable; nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import OperationalError

from contracts.case import CaseHandled
from deploy.migrate import migrate
from services.case.commands import Report, act, report
from services.case.push import take
from services.case.tables import cases, numbers
from shared.database import Tx, open_engine
from shared.errors import Busy, Conflict, NotFound
from shared.log import entries, seal
from shared.writer import Writer
from tests.databases import Server
from tests.world import Around

AROUND = Around()


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    made = Writer(engine, "99")
    yield made
    made.close()


class Held:
    """Keeps a writer busy until released, so that what is submitted meanwhile forms one group."""

    def __init__(self, writer: Writer) -> None:
        self.go, here = threading.Event(), threading.Event()

        def wait(_: Tx) -> None:
            here.set()
            assert self.go.wait(20)

        self.future = writer.submit(wait)
        assert here.wait(5)

    def release(self) -> None:
        self.go.set()
        self.future.result(20)


def state(name: str) -> Callable[[Tx], str]:
    def work(tx: Tx) -> str:
        tx.execute(numbers.insert(), {"day": name, "last": 1})
        tx.state(CaseHandled(time=datetime.now(UTC), day="2026-03-02", case=name))
        return name

    return work


def fail(error: Exception, then: Callable[[Tx], Any] = lambda _: None) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        then(tx)
        raise error

    return work


def facts(engine: Engine) -> list[str]:
    with engine.begin() as c:
        return list(c.execute(select(entries.c.subject).order_by(entries.c.id)).scalars())


def rows(engine: Engine) -> set[str]:
    with engine.begin() as c:
        return set(c.execute(select(numbers.c.day)).scalars())


def answers(futures: list[Future[Any]]) -> list[Any]:
    return [f.exception(20) or f.result() for f in futures]


def test_who_fails_fails_alone_and_leaves_nothing(engine: Engine, writer: Writer) -> None:
    wrong = Conflict("no")
    held = Held(writer)
    works = [state("a"), fail(wrong, state("b")), state("c"), fail(ValueError("x")), state("a"), state("d")]
    futures = [writer.submit(w) for w in works]
    before = writer.commits
    held.release()
    found = answers(futures)
    assert found[:3] == ["a", wrong, "c"] and found[5] == "d"
    assert isinstance(found[3], ValueError) and "IntegrityError" in type(found[4]).__name__
    assert facts(engine) == ["a", "c", "d"] and rows(engine) == {"a", "c", "d"}
    assert writer.commits - before <= 2, "they shared a commit"
    assert seal(engine, "99/case") == 3


def test_facts_stand_in_the_order_of_the_use_cases(engine: Engine, writer: Writer) -> None:
    held = Held(writer)
    names = [f"n{n:03d}" for n in range(300)]
    futures = [writer.submit(state(n) if n != "n150" else fail(NotFound("no"), state(n))) for n in names]
    held.release()
    answers(futures)
    assert facts(engine) == [n for n in names if n != "n150"]


def test_nobody_is_answered_before_the_commit(engine: Engine, writer: Writer) -> None:
    """What the caller reads back the moment it is answered, through another connection, is there."""
    for n in range(20):
        name = writer.submit(state(f"n{n}")).result(20)
        assert name in rows(engine)


@pytest.fixture
def strict(engine: Engine) -> Engine:
    """With a table whose rows are only checked when the transaction ends."""
    with engine.begin() as c:
        c.exec_driver_sql("CREATE TABLE parents (id integer PRIMARY KEY)")
        c.exec_driver_sql("CREATE TABLE children (of integer REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
    return engine


def test_a_commit_that_fails_answers_everybody_with_the_error(strict: Engine) -> None:
    writer, runs = Writer(strict, "99"), 0

    def orphan(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        tx.execute(text("INSERT INTO children VALUES (7)"))

    held = Held(writer)
    futures = [writer.submit(w) for w in (state("a"), orphan, state("b"))]
    held.release()
    assert all("IntegrityError" in type(a).__name__ for a in answers(futures))
    assert (facts(strict), rows(strict)) == ([], set())
    assert runs == 1, "whether a failed commit was done is not known, so that nothing may be done a second time"
    assert writer.submit(state("c")).result(20) == "c", "the next group goes through"
    writer.close()


def test_a_full_disk_acknowledges_nothing_that_is_not_there(tmp_path: Any) -> None:
    """SQLite rolls the whole transaction back by itself then; what came before in the group must not be called done."""
    engine = open_engine(f"sqlite:///{tmp_path}/full.db")
    migrate(engine)
    with engine.begin() as c:
        c.exec_driver_sql("CREATE TABLE blobs (x blob)")
        room = c.exec_driver_sql("PRAGMA page_count").scalar_one() + 20
    event.listen(engine, "begin", lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={room}"))
    writer = Writer(engine, "99")
    held = Held(writer)
    big = writer.submit(lambda tx: tx.execute(text("INSERT INTO blobs VALUES (zeroblob(900000))")))
    futures = [writer.submit(state("a")), big, writer.submit(state("b"))]
    again = [writer.submit(state("c")), writer.submit(fail(Conflict("no")))]
    held.release()
    done = {a for a in answers([*futures, *again]) if isinstance(a, str)}
    assert isinstance(big.exception(), OperationalError)
    assert done == rows(engine) == set(facts(engine))
    assert writer.submit(state("e")).result(20) == "e"
    writer.close()


def test_a_caller_who_goes_away_harms_nobody(engine: Engine, writer: Writer) -> None:
    held = Held(writer)
    gone, stays = writer.submit(state("gone")), writer.submit(state("stays"))
    assert gone.cancel()
    held.release()
    assert stays.result(20) == "stays" and writer.alive
    assert facts(engine) == ["stays"], "what was given up before it began is not done"


def test_the_queue_has_a_bound(engine: Engine) -> None:
    writer = Writer(engine, "99", bound=3)
    held = Held(writer)
    futures = [writer.submit(state(f"n{n}")) for n in range(3)]
    with pytest.raises(Busy) as refused:
        writer.submit(state("n3"))
    assert refused.value.retry_after >= 1 and writer.depth == 3
    held.release()
    assert answers(futures) == ["n0", "n1", "n2"]
    assert writer.submit(state("n4")).result(20) == "n4"
    writer.close()


def test_closing_finishes_what_was_accepted(engine: Engine) -> None:
    writer = Writer(engine, "99", group=2)
    accepted: list[Future[str]] = []
    refused = 0

    def press(who: int) -> None:
        nonlocal refused
        for n in range(50):
            try:
                accepted.append(writer.submit(state(f"{who}-{n}")))
            except Busy:
                refused += 1

    threads = [threading.Thread(target=press, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while len(accepted) < 20:
        pass
    writer.close()
    for thread in threads:
        thread.join()
    assert {f.result(0) for f in accepted} == rows(engine), "answered at once, each of them"
    assert refused + len(accepted) == 200
    with pytest.raises(Busy):
        writer.submit(state("late"))
    writer.close()
    assert not writer.alive


@pytest.fixture
def copies(postgres: Server) -> Iterator[list[Writer]]:
    """Two copies of a service with an engine of their own on one PostgreSQL."""
    url = postgres.fresh()
    engines = [open_engine(url) for _ in range(2)]
    migrate(engines[0])
    made = [Writer(e, "99", group=16) for e in engines]
    yield made
    for writer in made:
        writer.close()
        writer.engine.dispose()


def test_two_copies_number_without_doubles(copies: list[Writer]) -> None:
    """Over several days in opposite order, which is how two transactions come to wait for one another."""
    days = [datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=n) for n in range(12)]
    futures = []
    for turn in range(10):
        for n, writer in enumerate(copies):
            for day in days if n == turn % 2 else reversed(days):
                futures.append(writer.submit(lambda tx, at=day: report(tx, AROUND, Report("E0101", 1.0, 1.0), at)["number"]))  # type: ignore[misc]
    found = answers(futures)
    assert [a for a in found if not isinstance(a, str)] == []
    expected = {f"99-{d:%Y%m%d}-{n:05d}" for d in days for n in range(1, 21)}
    assert set(found) == expected and len(found) == len(expected)


def test_two_copies_act_on_the_same_cases(copies: list[Writer]) -> None:
    """Of two who file one case at the same moment exactly one is right; the other hears of a conflict, never of a breakdown."""
    ids = [copies[0].run(lambda tx: report(tx, AROUND, Report("E0101", 1.0, 1.0))["id"]) for _ in range(40)]
    roles, said = frozenset({"shift_supervisor"}), {"condition": "1"}
    futures = [
        writer.submit(lambda tx, case=case: act(tx, AROUND, case, "file", roles, version=1, given=said)["id"])  # type: ignore[misc]
        for writer, order in zip(copies, (ids, reversed(ids)), strict=True)
        for case in order
    ]
    found = answers(futures)
    assert sorted(a for a in found if isinstance(a, str)) == sorted(ids)
    assert sum(isinstance(a, Conflict) for a in found) == len(ids)
    with copies[0].engine.begin() as c:
        assert set(c.execute(select(cases.c.version)).scalars()) == {2}
        # Of each case its report, the end of the acceptance, and the filing.
        assert len(c.execute(select(entries.c.id)).all()) == 120


def test_two_copies_are_pushed_the_same_events(copies: list[Writer]) -> None:
    """As a platform does that got no answer from one copy and asks the other: each event counts once, none is refused."""
    data = {"category": "E0101", "lon": 1.0, "lat": 1.0}
    common = {"specversion": "1.0", "source": "urn:p", "type": "cn.sanji.platform.case.reported.v1"}
    common["time"] = "2026-03-02T00:00:00Z"
    events = [common | {"id": f"e{n}", "subject": f"s{n}", "data": data} for n in range(60)]
    futures = [
        writer.submit(lambda tx, event=event: take(tx, AROUND, "urn:p", event))  # type: ignore[misc]
        for one, other in zip(events, reversed(events), strict=True)
        for writer, event in zip(copies, (one, other), strict=True)
    ]
    outcomes = [a["outcome"] if isinstance(a, dict) else a for a in answers(futures)]
    assert sorted(map(str, outcomes)) == ["accepted"] * 60 + ["duplicate"] * 60
    assert len(facts(copies[0].engine)) == 60
