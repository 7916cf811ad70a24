"""A node's own staff at work, each step by somebody of the role that it needs, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, select

from services.case import domain
from services.case.commands import Report, act, report
from services.case.tables import cases
from shared.auth import Caller
from shared.database import Tx
from shared.log import entries, record
from tests.world import Around, Clock

SAID: dict[str, dict[str, Any]] = {
    "file": {"condition": "1"}, "dispatch": {"department": "lamps"}, "assign": {"handler": "wang"}, "verify": {"result": "exist"},
    "close": {"means": "service", "closing": "1"}, "refuse": {"reason": "out_of_scope"}, "decline": {"reason": "other"},
}  # fmt: skip
"""What a step says at least, beside an opinion."""


@dataclass
class Office:
    """One node; every role is held by somebody named like it."""

    engine: Engine
    clock: Clock = field(default_factory=Clock)
    around: Around = field(default_factory=Around)

    @contextmanager
    def tx(self) -> Iterator[Tx]:
        with self.engine.begin() as connection:
            yield Tx(connection, "99", now=self.clock, recorder=record)

    def report(self, category: str = "E0101", **more: Any) -> str:
        with self.tx() as tx:
            place = {} if more.keys() & {"cell", "part", "lon"} else {"lon": 1.0, "lat": 1.0}
            return str(report(tx, self.around, Report(category, **(place | more)))["id"])

    def do(
        self, case: str, action: domain.Action, role: str | None = None, name: str | None = None, **given: Any
    ) -> dict[str, Any]:
        """Take a step as the first role that may, unless one is named."""
        row = self.row(case)
        if role is None:
            role = min(next(s.roles for s in domain.steps(row["state"]) if s.action == action) - {"integrator"})
        who = Caller(name or f"the {role}", frozenset({role}), None, given.pop("departments", frozenset()))
        said = {"opinion": "because"} | SAID.get(action, {}) | given
        with self.tx() as tx:
            return act(tx, self.around, case, action, who.roles, given=said, who=who)

    def lead(self, case: str, *actions: domain.Action) -> dict[str, Any]:
        """Take one step after another, a minute apart."""
        row: dict[str, Any] = {}
        for action in actions:
            self.clock.pass_(1 / 60)
            row = self.do(case, action)
        return row

    def row(self, case: str) -> dict[str, Any]:
        with self.engine.connect() as connection:
            return dict(connection.execute(select(cases).where(cases.c.id == case)).mappings().one())

    def facts(self, case: str) -> list[str]:
        """The facts stated of a case, in short words."""
        with self.engine.connect() as connection:
            return short(connection, case)


def short(connection: Connection, case: str) -> list[str]:
    found = connection.execute(select(entries.c.type).where(entries.c.subject == case).order_by(entries.c.id)).scalars()
    return [kind.removeprefix("cn.sanji.case.").removesuffix(".v1") for kind in found]
