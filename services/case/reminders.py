"""Tells in time: a clock turned yellow or red, a supervision waits beyond its day; each told once for each clock.

What was judged is kept beside the case, so that a deadline that moves is judged anew, and the same clock is not told twice. A
process that was away catches up; what was late before anybody wanted to be told is told once it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Column, Engine, Index, String, Table, bindparam, func, insert, select, text, union, update
from sqlalchemy.dialects import postgresql, sqlite

from services.case import book, notices, outbox
from services.case.tables import INSTANT, cases, metadata
from services.case.telling import TIMED, Event, Happening
from shared.clock import stamp, unstamp
from shared.database import Tx, reading
from shared.loops import progressed
from shared.writer import Writer

told = Table(
    "case_told",
    metadata,
    Column("case_id", String(40), primary_key=True),
    Column("kind", String(16), primary_key=True),
    # The instant that was judged last, and the clock that was told.
    Column("instant", INSTANT, nullable=False),
    Column("clock", String(80), nullable=False),
)

timers = Table(
    "case_timers",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("at", INSTANT, nullable=False),
)
"""Up to when a timer has looked."""

COLUMNS: dict[Event, str] = {"due_soon": "warn_at", "overdue": "late_at", "reply_due": "reply_by"}

for _column in COLUMNS.values():
    # Only of cases whose clock runs: without these a look at what is due would read every case that ever was.
    _set = text(f"{_column} IS NOT NULL")
    Index(f"case_cases_{_column}", cases.c[_column], sqlite_where=_set, postgresql_where=_set)

PAUSE, CHUNK, TIMER = 15.0, 200, "reminders"
SLACK = timedelta(seconds=30)
"""How long a step may take from its instant to its commit."""
HOUR = timedelta(hours=1)

_SINCE = select(timers.c.at).where(timers.c.name == TIMER)
_KEEP = {
    name: dialect.insert(told)
    .values(case_id=bindparam("of"), kind=bindparam("what"), instant=bindparam("when"), clock=bindparam("which"))
    .on_conflict_do_update(index_elements=["case_id", "kind"], set_={"instant": bindparam("when"), "clock": bindparam("which")})
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


@dataclass
class Reminders:
    """The loop of one process; several on one database do no harm, because what is told is noted where it is told."""

    engine: Engine
    writer: Writer
    cleaned: datetime | None = None

    async def turn(self) -> None:
        """One look, in chunks so small that nobody waits for them."""
        at = self.writer.now()
        while found := await asyncio.to_thread(candidates, self.engine, at):
            await self._write(partial(judge, found=found, at=at))
            progressed()
        await self._write(partial(looked, at=at))
        if self.cleaned is None or at - self.cleaned >= HOUR:
            while await self._write(lambda tx: notices.forget(tx, CHUNK) + outbox.forget(tx, CHUNK)):
                progressed()
            self.cleaned = at
        await asyncio.sleep(PAUSE)

    async def _write(self, work: Callable[[Tx], Any]) -> Any:
        return await asyncio.wrap_future(self.writer.submit(work))


def candidates(engine: Engine, at: datetime) -> list[tuple[Event, str]]:
    """(kind, case) of what is due and was not judged yet, so many at most; read aside, because it may take a while."""
    with reading(engine) as connection:
        since = connection.execute(_SINCE).scalar()
        if since is None or not book.of(connection).kinds & TIMED:
            return []
        return [(kind, case) for kind in COLUMNS for case in connection.execute(_due(kind, since, stamp(at))).scalars()]


def _due(kind: Event, since: str, at: str) -> Any:
    """Cases whose moment came since the last look, and those that changed since then and are due already, such as one that goes
    on after a pause."""
    column = cases.c[COLUMNS[kind]]
    judged = select(told.c.case_id).where(told.c.case_id == cases.c.id, told.c.kind == kind, told.c.instant == column).exists()
    lately = stamp(unstamp(since) - SLACK)
    came = select(cases.c.id).where(column >= since, column < at, ~judged).limit(CHUNK)
    # Not by the index of the deadlines, which would lead through everything that is late: few cases changed just now.
    passed = func.coalesce(column, "~") < at
    moved = select(cases.c.id).where(cases.c.changed_at > lately, passed, ~judged).limit(CHUNK)
    return union(select(came.subquery()), select(moved.subquery()))


def judge(tx: Tx, found: Sequence[tuple[Event, str]], at: datetime) -> int:
    """Tell of those candidates that are due still; answers how many were told of."""
    rows = {row["id"]: dict(row) for row in tx.execute(select(cases).where(cases.c.id.in_({c for _, c in found}))).mappings()}
    groups = []
    for kind, case in found:
        row = rows.get(case)
        # Somebody may have acted on it since it was read.
        still = row is not None and row[COLUMNS[kind]] is not None and row[COLUMNS[kind]] < stamp(at)
        if row is not None and still and (said := _judge(tx, kind, row, stamp(at))):
            groups.append([said])
    notices.tell(tx, book.of(tx.connection), groups)
    return len(groups)


def looked(tx: Tx, at: datetime) -> None:
    """Note up to when this was looked at."""
    since = tx.execute(_SINCE).scalar()
    if since is None:
        tx.execute(insert(timers), {"name": TIMER, "at": stamp(at)})
    elif stamp(at) > since:
        tx.execute(update(timers).where(timers.c.name == TIMER).values(at=stamp(at)))


def _judge(tx: Tx, kind: Event, row: Mapping[str, Any], at: str) -> Happening | None:
    """Note that a case was looked at for this moment; answers what there is to tell, None where it was told of this clock."""
    which, instant = _clock(kind, row), row[COLUMNS[kind]]
    before = tx.execute(select(told.c.clock).where(told.c.case_id == row["id"], told.c.kind == kind)).scalar()
    tx.execute(_KEEP[tx.connection.dialect.name], {"of": row["id"], "what": kind, "when": instant, "which": which})
    # Who comes back after the deadline says that it is overdue, not that it soon will be.
    over = kind == "due_soon" and row["late_at"] is not None and row["late_at"] < at
    return None if over or before == which else Happening(kind, row, at, "node", detail=_detail(kind, row))


def _clock(kind: Event, row: Mapping[str, Any]) -> str:
    """Names the clock that is told of: one that was extended 延期 is another, one that only paused is the same."""
    if kind == "reply_due":
        return str(row["reply_by"])
    kept = (row["clocks"] or {}).get(row["stage"]) or {}
    extended = sum(move["code"] == "extended" for move in kept.get("moves", ()))
    return f"{row['stage']} {kept.get('began', '')} {extended}"


def _detail(kind: Event, row: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "reply_due":
        return {"reply_by": row["reply_by"]}
    return {"stage": row["stage"], "warn_at": row["warn_at"], "late_at": row["late_at"]}
