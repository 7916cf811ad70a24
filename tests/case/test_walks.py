"""Random walks of many people over several cases, right steps and wrong ones: no state outside the table, nothing half done."""

from __future__ import annotations

import os
from datetime import timedelta
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, func, select

from contracts.base import Fact
from services.case import domain, queries, timers
from services.case.commands import Report, act, report
from services.case.tables import cases, steps
from services.evaluation import domain as evaluation
from shared import audit, log
from shared.auth import Caller
from shared.clock import stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, Forbidden, SanjiError
from tests.case.shadow import Shadow, light
from tests.case.stories import LAMPS, ROADS, WAYS
from tests.world import Around, Clock

WALKS = int(os.environ.get("WALKS", "12"))
DEPARTMENTS = (LAMPS, ROADS)
ROLES = ("collector", "acceptor", "shift_supervisor", "dispatcher", "checker", "leader", "administrator", "reporter")
PEOPLE = (
    *(Caller(f"{role} {n}", frozenset({role})) for role in ROLES for n in (1, 2)),
    *(Caller(f"{role} of {d} {n}", frozenset({role}), None, frozenset({d}))
      for role in ("department", "handler") for d in DEPARTMENTS for n in (1, 2)),
    Caller("both desks", frozenset({"acceptor", "shift_supervisor"})),
    Caller("all departments", frozenset({"department", "handler"})),
)  # fmt: skip
HANDLERS = [p.name for p in PEOPLE if "handler" in p.roles]
MINUTES = (0, 1, 7, 7, 30, 30, 150, 600, 780, 1440, 4000)
SEEDS = st.integers(0, 2**32)
ENDS = set(domain.STATES) - domain.OPEN - {"closed", "appealed", "appeal_review"}
DETOURS = {"ask_verification", "ask_void", "send_back", "recall", "unassign", "amend", "split", "supervise", "reply_supervision"}
"""What a case need not go through, and would go through most of the time if all were as likely."""


class Walk(RuleBasedStateMachine):
    """One node in one transaction that is never committed; each step is a savepoint of it, as the writer has them."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.clock, self.around = Clock(), Around()
        self.connection = engine.connect()
        self.outer = self.connection.begin()
        self.shadows: dict[str, Shadow] = {}
        self.stated: list[Fact] = []
        self.turns = 0

    def teardown(self) -> None:
        self.outer.rollback()
        self.connection.close()

    def _tx(self) -> Tx:
        def recorder(tx: Tx, fact: Fact) -> None:
            self.stated.append(fact)
            log.record(tx, fact)

        return Tx(self.connection, "99", now=self.clock, recorder=recorder)

    def _count(self, table: Any) -> int:
        return int(self.connection.execute(select(func.count()).select_from(table)).scalar_one())

    def _row(self, case: str) -> dict[str, Any]:
        return dict(self.connection.execute(select(cases).where(cases.c.id == case)).mappings().one())

    def _trace(self) -> tuple[Any, ...]:
        rows = self.connection.execute(select(cases).order_by(cases.c.id)).all()
        return repr(rows), self._count(steps), self._count(log.entries), self._count(audit.entries)

    @initialize(seed=SEEDS)
    def some_cases_are_under_way(self, seed: int) -> None:
        """Walks that all begin with a report would spend their time there."""
        dice = self._dice(seed)
        for _ in range(3):
            self._report("E0101", "collector", False)
            self._lead(dice, max(self.shadows), dice.choice(sorted(WAYS)))

    def _lead(self, dice: Random, case: str, state: str) -> None:
        """Take a case to a state by right steps; it stays on the way where somebody may not after all."""
        if state in WAYS:
            way = WAYS[state]
            self._lead(dice, case, way.before)
            self._pass(4000 if state == "handled late" else dice.choice(MINUTES[:6]))
            able = [p for p in PEOPLE if way.role in p.roles and not {LAMPS}.isdisjoint(p.departments or {LAMPS})]
            row = self._row(case)
            who = next((p for p in able if p.name == row["handler"]), dice.choice(able))
            said = self._said(dice) | {"department": LAMPS, "handler": f"handler of {LAMPS} 1"}
            self._tried(row, way.action, who, said)  # type: ignore[arg-type]

    def _report(self, category: str, channel: Any, self_handled: bool) -> None:
        self.stated = []
        who = PEOPLE[0]
        what = Report(category, 1.0, 1.0, channel=channel, self_handled=self_handled)
        row = report(self._tx(), self.around, what, who=who)
        self._known(row["id"])

    def _known(self, case: str) -> None:
        row = self._row(case)
        calendar, policy = self.around.calendar.get(self.connection), self.around.policy.get(self.connection)
        shadow = self.shadows[case] = Shadow(calendar, policy, row["state"], unstamp(row["reported_at"]))
        shadow.start("acceptance", policy.stages["acceptance"], shadow.at)
        shadow.hear(f for f in self.stated if f.subject == case)

    @precondition(lambda self: len(self.shadows) < 5)
    @rule(category=st.sampled_from(["E0101", "P0101"]), channel=st.sampled_from(["collector", "hotline", "telemetry"]),
          self_handled=st.sampled_from([False, False, True]))  # fmt: skip
    def somebody_reports(self, category: str, channel: str, self_handled: bool) -> None:
        self._report(category, channel, self_handled and channel == "collector")

    def _pass(self, minutes: int) -> None:
        if self.clock.at.month < 11:
            held = {case: self._held(case) for case in self.shadows}
            self.clock.at += timedelta(minutes=minutes)
            assert held == {case: self._held(case) for case in self.shadows}, "what stands still does not move"

    def _held(self, case: str) -> dict[str, str]:
        return {stage: c["due"] for stage, c in self._row(case)["clocks"].items() if "held" in c or "ended" in c}

    @rule()
    def the_timer_looks(self) -> None:
        now = stamp(self.clock.at)
        due = [c for c, r in ((c, self._row(c)) for c in self.shadows) if r["state"] == "suspended" and r["wakes_at"] <= now]
        before = {case: self._row(case) for case in due}
        self.stated = []
        woken = timers.wake(self._tx(), self.around)
        assert (woken.seen, woken.stuck) == (len(due), [])
        for case in due:
            self._followed(before[case], self._row(case), "resume")
            assert self._row(case)["last_at"] == max(before[case]["wakes_at"], before[case]["last_at"])

    @rule(seed=SEEDS)
    def some_go_on(self, seed: int) -> None:
        """Steps that rather bring a case forward, by people of a role that may, at all times of day."""
        dice = self._dice(seed)
        for _ in range(dice.randint(1, 6)):
            self._pass(dice.choice(MINUTES))
            going = [row for row in map(self._row, sorted(self.shadows)) if row["state"] not in ENDS]
            row = dice.choice(going or [self._row(max(self.shadows))])
            rows = [s for s in domain.steps(row["state"]) if s.target not in ENDS]
            self._by_right(dice, row, sorted(rows, key=lambda s: (s.action not in DETOURS) + 1.2 * dice.random()))

    @rule(seed=SEEDS)
    def somebody_does_what_may_be_done(self, seed: int) -> None:
        """Any step of the table by somebody of a role that may; perhaps without all that it needs."""
        dice = self._dice(seed)
        row = self._row(dice.choice(sorted(self.shadows)))
        rows = domain.steps(row["state"])
        self._by_right(dice, row, dice.sample(rows, len(rows)), left_out=dice.random() < 0.2)

    @rule(seed=SEEDS)
    def somebody_merges_and_parts(self, seed: int) -> None:
        dice = self._dice(seed)
        self._pass(dice.choice(MINUTES[:7]))
        acceptor = next(p for p in PEOPLE if "acceptor" in p.roles)
        for action in dice.choices(("merge", "unmerge"), k=3):
            rows = [self._row(case) for case in sorted(self.shadows)]
            if able := [row for row in rows if action in {s.action for s in domain.steps(row["state"])}]:
                self._tried(dice.choice(able), action, acceptor, self._said(dice))  # type: ignore[arg-type]

    @rule(seed=SEEDS)
    def somebody_does_anything(self, seed: int) -> None:
        dice = self._dice(seed)
        row = self._row(dice.choice(sorted(self.shadows)))
        self._tried(row, dice.choice(domain.ACTIONS), dice.choice(PEOPLE), self._said(dice))

    def _dice(self, seed: int) -> Random:
        """Another one at each turn: what draws the numbers likes small ones and the same again."""
        self.turns += 1
        return Random(f"{seed} {self.turns}")

    def _by_right(self, dice: Random, row: dict[str, Any], rows: list[domain.Step], *, left_out: bool = False) -> None:
        if rows:
            step = rows[-1]
            able = [p for p in PEOPLE if step.roles & p.roles]
            given = self._said(dice)
            if left_out:
                given.pop(dice.choice(sorted(given)))
            if able:
                self._tried(row, step.action, dice.choice(able), given)

    def _said(self, dice: Random) -> dict[str, Any]:
        """All that any step may need."""
        return {
            "opinion": "because", "reason": "other", "result": dice.choice(("exist", "exist", "unable", "not_exist")),
            "department": dice.choice(DEPARTMENTS), "helpers": dice.choice((None, list(DEPARTMENTS))),
            "handler": dice.choice(HANDLERS), "until": self.clock.at + timedelta(hours=dice.randint(1, 500)),
            "reply_by": self.clock.at + timedelta(hours=dice.randint(-2, 50)), "means": "service", "closing": "1",
            "condition": "1", "into": dice.choice(sorted(self.shadows)), "parts": [{"category": "P0101"}],
            "category": dice.choice(("E0101", "P0101")),
        }  # fmt: skip

    def _tried(self, row: dict[str, Any], action: domain.Action, who: Caller, given: dict[str, Any]) -> None:
        note(f"{row['state']} {action} by {who.name}: {given}")
        tx, before, rows = self._tx(), self._trace(), {c: self._row(c) for c in self.shadows}
        self.stated = []
        (known,) = [s for s in domain.steps(row["state"]) if s.action == action] or [None]
        shown = queries.now(self.connection, self.around, row, who, self.clock.at)
        assert shown["light"] == light(row, self.clock.at)
        try:
            with tx.attempt():
                after = act(tx, self.around, row["id"], action, who.roles, version=row["version"], given=given, who=who)
        except SanjiError as error:
            note(f"refused: {error.detail}")
            assert self._trace() == before, "what is refused leaves no trace"
            assert known or (isinstance(error, Conflict) and error.field == "/action")
            assert not known or known.roles & who.roles or isinstance(error, Forbidden)
            assert error.field or isinstance(error, Forbidden)
            return
        assert known and known.roles & who.roles and action in shown["allowed"], "who may is told so before"
        assert after == self._row(row["id"])
        self._followed(row, after, action)
        for other in set(rows) - {row["id"]}:
            now = self._row(other)
            changed = {k for k in now if now[k] != rows[other][k]}
            assert changed <= {"joined", "changed_at"}, "a step changes its own case, and counts the reports behind another"
        for child in (after_child for after_child in self._children(row["id"]) if after_child not in self.shadows):
            self._known(child)

    def _children(self, case: str) -> list[str]:
        return list(self.connection.execute(select(cases.c.id).where(cases.c.parent == case)).scalars())

    def _followed(self, before: dict[str, Any], after: dict[str, Any], action: str) -> None:
        shadow = self.shadows[before["id"]]
        (step,) = (s for s in domain.steps(before["state"]) if s.action == action)
        expected = {None: before["state"], "before": before["before"]}.get(step.target, step.target)
        assert after["state"] == expected
        shadow.take(step, before, after)
        shadow.hear(f for f in self.stated if f.subject == before["id"])
        shadow.compare(self._row(before["id"]))

    @invariant()
    def every_case_is_as_it_should_be(self) -> None:
        behind = dict.fromkeys(self.shadows, 0)
        for case, shadow in self.shadows.items():
            row = self._row(case)
            shadow.compare(row)
            self._timeline(row)
            if row["merged_into"]:
                for head in self._heads(row["merged_into"]):
                    behind[head] += 1
        assert behind == {case: self._row(case)["joined"] for case in self.shadows}, "reports behind each case"

    def _heads(self, case: str | None) -> list[str]:
        found = []
        while case is not None:
            found.append(case)
            case = self._row(case)["merged_into"]
        return found

    def _timeline(self, row: dict[str, Any]) -> None:
        query = select(steps).where(steps.c.case_id == row["id"]).order_by(steps.c.version)
        told = self.connection.execute(query).mappings().all()
        assert [s["version"] for s in told] == list(range(2, row["version"] + 1)), "without a gap"
        state, at = "self_handled" if told and told[0]["source"] == "self_handled" else "reported", row["reported_at"]
        for one in told:
            assert one["source"] == state and at <= one["at"] <= one["noted_at"]
            state, at = one["target"], one["at"]
        assert state == row["state"] or not told

    @invariant()
    def what_is_counted_is_counted_once(self) -> None:
        for shadow in self.shadows.values():
            marks = shadow.folded["counted"]
            letters = [marks[n] for n in range(0, len(marks), 11)]
            once = [letter for letter in letters if letter != evaluation.MARKS["reworked"]]
            assert len(once) == len(set(once))


def test_many_people_walk_at_random(engine: Engine) -> None:
    run_state_machine_as_test(
        lambda: Walk(engine),
        settings=settings(max_examples=WALKS, stateful_step_count=40, deadline=None, print_blob=True,
                          phases=(Phase.explicit, Phase.reuse, Phase.generate), suppress_health_check=list(HealthCheck)),
    )  # fmt: skip
