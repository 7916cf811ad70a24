"""A real node on a clock that the test moves, its staff, and the way by which a case comes to each state of the workflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
import pytest
from httpx import Client, Response
from sqlalchemy import Engine, func, select

from deploy.migrate import migrate
from services.case import timers
from services.case.tables import cases, requests, steps
from shared import audit, log
from shared.clock import unstamp
from shared.database import open_engine
from shared.settings import Limits, Retention
from tests import served
from tests.served import LEAF, ROOT, Served

API = "/api/case/v1"
CASES = f"{API}/cases"
ZONE = ZoneInfo("Asia/Shanghai")
CATEGORY = "E0105"
"""Of this node's catalogue: one filing condition, 2 work days."""
PLACE = {"category": CATEGORY, "lon": 87.62, "lat": 43.72}
LAMPS, ROADS = "lamps", "roads"
SAID: dict[str, dict[str, Any]] = {
    "file": {"condition": "1"}, "dispatch": {"department": LAMPS}, "assign": {"handler": "wang"}, "verify": {"result": "exist"},
    "close": {"means": "service", "closing": "1"}, "refuse": {"reason": "out_of_scope"}, "decline": {"reason": "other"},
    "ask_suspension": {"until": "2026-10-20T12:00:00+08:00"}, "supervise": {"reply_by": "2026-10-09T10:00:00+08:00"},
    "amend": {"category": "E0106"}, "split": {"parts": [{"category": "E0106"}]},
}  # fmt: skip
"""What a step says at least, beside an opinion."""


class By(NamedTuple):
    """How a case comes to a state: from another one, at a local time of autumn 2026, by an action of a role."""

    before: str
    at: str
    action: str
    role: str


WAYS: dict[str, By] = {
    "verifying": By("reported", "09-30 17:05", "ask_verification", "acceptor"),
    "accepted": By("reported", "09-30 17:05", "accept", "acceptor"),
    "refused": By("reported", "09-30 17:05", "refuse", "acceptor"),
    "merged": By("reported", "09-30 17:05", "merge", "acceptor"),
    "filed": By("accepted", "09-30 17:10", "file", "shift_supervisor"),
    "declined": By("accepted", "09-30 17:10", "decline", "shift_supervisor"),
    "void_asked": By("filed", "09-30 17:15", "ask_void", "dispatcher"),
    "void": By("void_asked", "09-30 17:18", "grant", "shift_supervisor"),
    "forced": By("filed", "09-30 17:18", "force_close", "administrator"),
    "dispatched": By("filed", "09-30 17:20", "dispatch", "dispatcher"),
    "return_asked": By("dispatched", "09-30 17:30", "ask_return", "department"),
    "handling": By("dispatched", "09-30 17:30", "assign", "department"),
    "postpone_asked": By("handling", "10-08 09:00", "ask_postponement", "handler"),
    "postpone_review": By("postpone_asked", "10-08 09:30", "endorse", "department"),
    "suspend_asked": By("handling", "10-08 09:00", "ask_suspension", "handler"),
    "suspended": By("suspend_asked", "10-08 10:00", "grant", "dispatcher"),
    "done": By("handling", "10-08 11:00", "finish", "handler"),
    "handled": By("done", "10-08 15:00", "handle", "department"),
    "checking": By("handled", "10-08 15:05", "ask_check", "acceptor"),
    "checked": By("checking", "10-08 15:25", "pass_check", "checker"),
    "closed": By("checked", "10-08 15:30", "close", "shift_supervisor"),
    "handled late": By("done", "10-10 09:00", "handle", "department"),
    "checking late": By("handled late", "10-10 09:05", "ask_check", "acceptor"),
    "checked late": By("checking late", "10-10 09:25", "pass_check", "checker"),
    "closed late": By("checked late", "10-10 09:30", "close", "shift_supervisor"),
    "appealed": By("closed late", "10-10 10:00", "appeal", "department"),
    "appeal_review": By("appealed", "10-10 10:30", "endorse", "dispatcher"),
    "failed": By("checking", "10-08 15:25", "fail_check", "checker"),
    "returned": By("return_asked", "09-30 17:40", "grant", "dispatcher"),
}
"""`late`: fed back after the deadline; `failed` and `returned` are filed once more, after a check and by a department."""
REPORTED = "09-30 17:00"


def local(text: str) -> datetime:
    """`09-30 17:20` of 2026 on the wall of the node, in UTC."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=ZONE).astimezone(UTC)


def wall(at: str | None) -> str | None:
    """A stored instant as the clock on the wall shows it, to the minute."""
    return unstamp(at).astimezone(ZONE).strftime("%m-%d %H:%M") if at else None


@dataclass
class Hand:
    """The clock of a node, moved by hand."""

    at: datetime = field(default_factory=lambda: local(REPORTED))

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Town:
    """A node that answers over HTTP, and everybody who works there; each role is held by somebody named like it."""

    served: Served
    clock: Hand
    _tokens: dict[Any, str] = field(default_factory=dict)

    def as_(self, *roles: str, name: str = "", of: str | None = None) -> dict[str, str]:
        """Who `name` is, acting `of` a department or of all; the handler that cases are assigned to is wang."""
        name = name or ("wang" if roles == ("handler",) else f"the {' '.join(roles)}")
        key = (roles, name, of)
        if key not in self._tokens:
            here = {"department": of} if of else {}
            grants = [{"role": r, "node": ROOT} | here for r in roles]
            self._tokens[key] = self.served.token(sub=name, sanji=grants)
        return {"Authorization": f"Bearer {self._tokens[key]}"}

    def set(self, text: str) -> None:
        self.clock.at = local(text)

    def post(self, role: str = "collector", **more: Any) -> Response:
        return self.served.client.post(CASES, json=PLACE | more, headers=self.as_(role))

    def report(self, role: str = "collector", **more: Any) -> str:
        answer = self.post(role, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def do(
        self, case: str, action: str, *roles: str, name: str = "", of: str | None = None, version: int | None = None,
        bare: bool = False, **said: Any,
    ) -> Response:  # fmt: skip
        """Take a step with all that it needs said, unless `bare`; a field given as None is left out."""
        version = version or self.row(case)["version"]
        body = {"action": action, "version": version} | ({} if bare else {"opinion": "because", **SAID.get(action, {})}) | said
        if action in ("merge", "join") and not bare and "into" not in said:
            body["into"] = self.report()
        body = {name: value for name, value in body.items() if value is not None}
        headers = self.as_(*roles, name=name, of=of)
        return self.served.client.post(f"{CASES}/{case}/actions", json=body, headers=headers)

    def done(self, case: str, action: str, *roles: str, **more: Any) -> dict[str, Any]:
        """The same, which must succeed."""
        answer = self.do(case, action, *roles, **more)
        assert answer.status_code == 200, f"{action}: {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    def reach(self, state: str, **said: Any) -> str:
        """A case that came to a state by `WAYS`; what is `said` beside is said at the last step."""
        if state == "withdrawn":
            return self._withdrawn()
        if state not in WAYS:
            self.set(REPORTED)
            return self.report(**said, **({"self_handled": True} if state == "self_handled" else {}))
        way = WAYS[state]
        case = self.reach(way.before)
        self.set(way.at)
        self.done(case, way.action, way.role, **said)
        return case

    def _withdrawn(self) -> str:
        self.set(REPORTED)
        case, code = self.cited()
        assert self.mine(code, "withdrawal").status_code == 200
        return case

    def cited(self, **more: Any) -> tuple[str, str]:
        """A report by a citizen: the case and its tracking code."""
        found = self.served.client.post(f"{API}/reports", json=PLACE | more).json()
        with self.served.runtime.engine.connect() as connection:
            case = connection.execute(select(cases.c.id).where(cases.c.number == found["number"])).scalar_one()
        return str(case), found["tracking_code"]

    def mine(self, code: str, what: str, **body: Any) -> Response:
        """What a reporter does with his own report."""
        return self.served.client.post(f"{API}/reports/mine/{what}", json=body or None, headers={"X-Tracking-Code": code})

    def get(self, case: str, *roles: str, **more: Any) -> dict[str, Any]:
        answer = self.served.client.get(f"{CASES}/{case}", headers=self.as_(*(roles or ("auditor",)), **more))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def row(self, case: str) -> dict[str, Any]:
        with self.served.runtime.engine.connect() as connection:
            return dict(connection.execute(select(cases).where(cases.c.id == case)).mappings().one())

    def timeline(self, case: str) -> list[dict[str, Any]]:
        return timeline(self.served.runtime.engine, case)

    def facts(self, case: str) -> list[dict[str, Any]]:
        """The data of each fact of a case, with its short name as `fact`."""
        return [data | {"fact": name} for name, data in facts(self.served.runtime.engine, case)]

    def told(self, case: str) -> list[str]:
        return [fact["fact"] for fact in self.facts(case)]


def timeline(engine: Engine, case: str) -> list[dict[str, Any]]:
    """The steps of a case in order."""
    with engine.connect() as connection:
        found = connection.execute(select(steps).where(steps.c.case_id == case).order_by(steps.c.version)).mappings()
        return [dict(row) for row in found]


def facts(engine: Engine, case: str) -> list[tuple[str, dict[str, Any]]]:
    """(short name, data) of the facts of a case in the order in which they were stated."""
    with engine.connect() as connection:
        rows = connection.execute(select(log.entries.c.body).where(log.entries.c.subject == case).order_by(log.entries.c.id))
        found = [orjson.loads(body) for (body,) in rows]
    return [(one["type"].removeprefix("cn.sanji.case.").removesuffix(".v1"), one["data"]) for one in found]


def trace(engine: Engine) -> tuple[Any, ...]:
    """Everything that a step leaves behind; what was refused must leave it as it was."""
    with engine.connect() as connection:
        rows = tuple(connection.execute(select(cases).order_by(cases.c.id)).all())
        counts = tuple(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (steps, log.entries, audit.entries, requests)
        )
        return repr(rows), counts


@contextmanager
def town(base: Path, engine: Engine, at: datetime | None = None) -> Iterator[Town]:
    """A demo county with the mainland's holidays, on a clock that stands until it is moved."""
    clock = Hand(at or local(REPORTED))
    unlimited = Limits(named="1000000/minute", nameless="1000000/minute")
    # Erasing goes by the real day, which may be long after the one on which the stories take place.
    runtime = served.start(served.settings(base, LEAF, limits=unlimited, retention=Retention(days=3650)), engine)
    # Before anything runs: the node's own timers go by this clock, too.
    runtime.writer.now = clock
    with served.listening(served.app(runtime)) as url, Client(base_url=url, timeout=30) as client:
        yield Town(Served(runtime, client), clock)


def served_town(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Iterator[Town]:
    """For a fixture of a whole file: one node on the database that `request.param` names; each story has a case of its own."""
    base, on_file = folders.mktemp(request.param), request.param == "sqlite"
    engine = open_engine(f"sqlite:///{base}/node.db" if on_file else request.getfixturevalue("postgres").fresh())
    migrate(engine)
    with town(base, engine) as found:
        yield found
    engine.dispose()


def wake(place: Town) -> None:
    """One turn of the node's own timer, by its own writer."""
    runtime = place.served.runtime
    found = runtime.writer.run(lambda tx: timers.wake(tx, runtime.extra["around"]))
    assert not found.stuck
