"""Leases on both databases: of many copies exactly one holds a thing, a dead one is succeeded in time, all agree on the turn."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from deploy.migrate import migrate
from shared.database import open_engine
from shared.lease import hold, join, leases, owner, release

AT = datetime(2026, 3, 2, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_one_holds_it_until_it_runs_out(engine: Engine) -> None:
    assert hold(engine, "x", "a", AT) and not hold(engine, "x", "b", AT)
    assert not hold(engine, "x", "b", later(14.999999)) and not hold(engine, "x", "b", later(15)), "to the last moment"
    assert hold(engine, "x", "a", later(10)), "who has it renews it"
    assert not hold(engine, "x", "b", later(24.9))
    assert hold(engine, "x", "b", later(25.000001)) and not hold(engine, "x", "a", later(25.000001)), "and then another may"
    assert hold(engine, "y", "a", AT), "another thing is another lease"
    with engine.begin() as c:
        assert sorted(c.execute(select(leases.c.name, leases.c.holder))) == [("x", "b"), ("y", "a")]


def test_what_is_given_back_is_free_at_once(engine: Engine) -> None:
    for name in ("x", "y"):
        assert hold(engine, name, "a", AT)
    release(engine, "b")
    assert not hold(engine, "x", "b", AT), "nobody gives back what another holds"
    release(engine, "a", "x")
    assert hold(engine, "x", "b", AT) and not hold(engine, "y", "b", AT)
    release(engine, "a")
    assert hold(engine, "y", "b", AT)


@pytest.fixture
def copies(engine: Engine) -> Iterator[list[Engine]]:
    """Several processes' engines on one database."""
    migrate(engine)
    made = [open_engine(engine.url.render_as_string(hide_password=False)) for _ in range(6)]
    yield made
    for one in made:
        one.dispose()


@pytest.mark.parametrize("taken", [False, True])
def test_of_many_at_the_same_moment_exactly_one_gets_it(engine: Engine, copies: list[Engine], taken: bool) -> None:
    """Whether nobody ever had it or its last holder has died."""
    won: Counter[str] = Counter()
    names = [f"n{n}" for n in range(12)]
    for name in names if taken else ():
        assert hold(engine, name, "dead", AT - timedelta(minutes=1))
    start = threading.Barrier(len(copies))

    def press(copy: Engine, who: str) -> None:
        for name in names:
            start.wait(20)
            if hold(copy, name, who, AT):
                won[name] += 1

    threads = [threading.Thread(target=press, args=(copy, f"copy-{n}")) for n, copy in enumerate(copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == dict.fromkeys(names, 1)


def test_who_lives_is_known_to_all_and_the_dead_are_forgotten(engine: Engine, copies: list[Engine]) -> None:
    assert join(engine, "case", "a", AT) == ["a"]
    assert join(copies[0], "case", "b", AT) == ["a", "b"] == join(engine, "case", "a", AT)
    assert join(engine, "evaluation", "c", AT) == ["c"], "another group"
    for group in ("cas", "case_", "%", "case,evaluation:case"):
        assert join(engine, group, "d", AT) == ["d"], "a group is its whole name"
    assert join(engine, "case", "a", later(14)) == ["a", "b"] and join(engine, "case", "a", later(16)) == ["a"]
    release(engine, "a")
    assert join(copies[0], "case", "b", later(17)) == ["b"]


def test_all_agree_whose_turn_it_is_and_it_is_even(engine: Engine) -> None:
    names, all_ = [f"hear evaluation-{n:06d}-case" for n in range(600)], ["a", "b", "c"]
    falls = {name: owner(name, all_) for name in names}
    assert falls == {name: owner(name, all_[::-1]) for name in names}
    share = Counter(falls.values())
    assert set(share) == set(all_) and min(share.values()) > 150
    fewer = {name: owner(name, ["a", "b"]) for name in names}
    assert all(fewer[name] == falls[name] for name in names if falls[name] != "c"), "when one dies only its part moves"
    assert owner("x", ["a"]) == "a"
