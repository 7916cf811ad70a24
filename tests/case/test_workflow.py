"""The workflow by full product: every state times every action times every role; and a case's life with its facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import Engine, select

from services.case import domain
from services.case.guards import GUARDS
from services.case.joining import DECIDE
from services.case.tables import cases
from shared import log as logs
from shared.auth import ROLES as ROLES_OF_TOKENS
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from tests.world import desk

ROLES = sorted({r for s in domain.WORKFLOW for r in s.roles} | {"collector", "evaluator", "auditor"})


@pytest.mark.parametrize("state", domain.STATES)
def test_every_action_of_every_role_in_every_state(state: domain.State) -> None:
    for action, role in product(domain.ACTIONS, ROLES):
        rows = [s for s in domain.WORKFLOW if (s.source, s.action) == (state, action)]
        mine = frozenset({role})
        if not rows:
            with pytest.raises(Conflict) as refused:
                domain.step(state, action, mine)
            assert refused.value.extra["allowed"] == [s.action for s in domain.WORKFLOW if s.source == state]
            assert action not in domain.allowed(state, mine)
        elif role in rows[0].roles:
            assert domain.step(state, action, mine) is rows[0]
            assert action in domain.allowed(state, mine)
        else:
            with pytest.raises(Forbidden):
                domain.step(state, action, mine)
            assert action not in domain.allowed(state, mine)


def test_the_table_is_sound() -> None:
    pairs = [(s.source, s.action) for s in domain.WORKFLOW]
    assert len(pairs) == len(set(pairs))
    reached = {"reported", "self_handled"} | {s.target for s in domain.WORKFLOW if s.target not in (None, "before")}
    assert reached == set(domain.STATES)
    assert {s.action for s in domain.WORKFLOW} == set(domain.ACTIONS) == set(DECIDE)
    assert {g for s in domain.WORKFLOW for g in s.guards} == set(GUARDS)
    assert {s.source for s in domain.WORKFLOW} >= domain.OPEN, "nobody can do anything about an open case"
    assert {r for s in domain.WORKFLOW for r in s.roles} <= ROLES_OF_TOKENS | domain.PERSONS


def test_the_last_moment_is_on_time() -> None:
    due = datetime(2026, 3, 6, 9, tzinfo=UTC)
    assert domain.on_time(due, due)
    assert not domain.on_time(due + timedelta(microseconds=1), due)


def test_a_life_and_its_facts(engine: Engine) -> None:
    at = desk(engine)
    case = at.report()
    for hours, action in ((0.1, "file"), (0.1, "dispatch"), (2.5, "handle"), (1, "rework"), (1, "handle"), (1, "close")):
        at.clock.pass_(hours)
        at.act(case, action)
    with engine.begin() as c:
        row = c.execute(select(cases).where(cases.c.id == case)).mappings().one()
        kinds = c.execute(select(logs.entries.c.type).order_by(logs.entries.c.id)).scalars().all()
    assert (row["state"], row["on_time"], row["version"]) == ("closed", False, 7)
    words = ["reported", "filed", "dispatched", "handled", "reworked", "handled", "closed"]
    assert kinds == [f"cn.sanji.case.{w}.v1" for w in words]
    assert logs.seal(engine, "99/case") == 7
    found, _ = logs.read_range(engine, "99/case", 1)
    assert [e.version for e in found] == list(range(1, 8))


def test_refusals_leave_nothing(engine: Engine) -> None:
    at = desk(engine)
    case = at.report()
    with pytest.raises(Invalid) as unknown:
        at.report(category="X1")
    assert unknown.value.field == "/category"
    with pytest.raises(Conflict):
        at.act(case, "close")
    with pytest.raises(Conflict) as stale:
        at.act(case, "file", version=9)
    assert stale.value.extra["version"] == 1
    with pytest.raises(NotFound):
        at.act("nobody", "file")
    with pytest.raises(Invalid) as early:
        at.act(case, "file", at=at.clock.at - timedelta(hours=1))
    assert early.value.field == "/time"
    with engine.begin() as c:
        assert len(c.execute(select(logs.entries.c.id)).all()) == 1
