"""Notices 通知: tells of what happened to a case whoever wants to be told, in the application, by mail and by webhook.

A notice is written in the transaction of what it tells, so that neither is ever there without the other. A notice for a role or a
department is one row, whoever has it; who has read it is noted for each account. Nothing that anybody wrote stands in a notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Column, Connection, Index, String, Table, and_, bindparam, delete, func, insert, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from services.case import book, outbox, webhooks
from services.case.book import Book
from services.case.tables import INSTANT, metadata
from services.case.telling import Event, Happening, events
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx

notices = Table(
    "case_notices",
    metadata,
    Column("event", String(40), primary_key=True),
    Column("target", String(140), primary_key=True),
    Column("case_id", String(40)),
    Column("kind", String(16), nullable=False),
    Column("at", INSTANT, nullable=False),
    Column("actor", String(120), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("case_notices_target", "target", "event"),
    Index("case_notices_at", "at"),
)
"""`event` is one happening and sorts by time; `target` is `account:`, `role:` or `department:` and a name."""

read = Table(
    "case_notices_read",
    metadata,
    Column("account", String(120), primary_key=True),
    Column("event", String(40), primary_key=True),
    Column("at", INSTANT, nullable=False),
)

KEPT = timedelta(days=180)
MOST_LINES = 50
"""Cases in one mail; what is more is counted."""
MOST_COUNTED, MARKED = 100, 1000
"""Unread notices that are counted, and those that are marked at once."""
EVERY_DEPARTMENT = "department:*"

CALLED = (
    "number", "category", "edition", "channel", "provenance", "division", "cell", "part", "department", "condition", "state",
    "version", "stage", "reported_at", "due_at", "warn_at", "late_at", "handled_at", "ended_at", "on_time",
)  # fmt: skip
"""What a webhook is told of a case."""

_ADD = insert(notices)
_READ = {
    name: dialect.insert(read)
    .values(account=bindparam("of"), event=bindparam("what"), at=bindparam("now"))
    .on_conflict_do_nothing(index_elements=["account", "event"])
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


def of_step(tx: Tx, before: Mapping[str, Any] | None, after: Mapping[str, Any], action: str, *, actor: str, at: datetime) -> None:
    """Tell of a step of the workflow. `before` is the case's row before it, None for a report; `after` the row then."""
    known = book.of(tx.connection)
    if not known.kinds:
        return
    state = before["state"] if before else None
    said = [Happening(e, after, stamp(at), actor, action, state) for e in events(before, after, action) if e in known.kinds]
    if said:
        tell(tx, known, [said])


def happened(
    tx: Tx, row: Mapping[str, Any], event: Event, *, actor: str, at: datetime | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Tell of something that is no step, such as a comment or a rating; `detail` holds codes only."""
    known = book.of(tx.connection)
    if event in known.kinds:
        tell(tx, known, [[Happening(event, row, stamp(at or tx.now()), actor, detail=detail or {})]])


def tell(tx: Tx, known: Book, groups: Iterable[Sequence[Happening]]) -> None:
    """Tell of happenings; those of one group are one to whoever hears: nobody is told twice of a step. Each account gets one
    mail of all of them."""
    rows: list[dict[str, Any]] = []
    lines: dict[str, list[dict[str, Any]]] = {}
    calls: list[outbox.Draft] = []
    for said in groups:
        event, told, mailed = tx.new_id(), set(), set()
        for one in said:
            for target, inapp, mail in known.inside(one):
                if inapp and target not in told and target != f"account:{one.actor}":
                    told.add(target)
                    rows.append(_row(event, target, one))
                for account in known.mail.get(target, ()) if mail else ():
                    if account not in mailed and account != one.actor:
                        mailed.add(account)
                        lines.setdefault(account, []).append(line(one))
            calls += [outbox.Draft("webhook", webhooks.target(hook), called(one)) for hook in known.outside(one)]
    if rows:
        tx.execute(_ADD, rows)
    outbox.put(tx, [*calls, *(_mail(account, found) for account, found in lines.items())])


def _row(event: str, target: str, said: Happening) -> dict[str, Any]:
    return {"event": event, "target": target, "case_id": said.row["id"], "kind": said.event, "at": said.at,
            "actor": said.actor, "detail": said.codes()}  # fmt: skip


def _mail(account: str, lines: list[dict[str, Any]]) -> outbox.Draft:
    more = max(0, len(lines) - MOST_LINES)
    return outbox.Draft("mail", f"account:{account}", {"kind": "notices", "lines": lines[:MOST_LINES], "more": more})


def line(said: Happening) -> dict[str, Any]:
    """What a mail says of a happening: number, category, division, deadline. Never a text, never who reported."""
    row = said.row
    found = {"event": said.event, "at": said.at, "state": row["state"], "number": row["number"]}
    return found | {name: row.get(name) for name in ("category", "division", "due_at")}


def called(said: Happening) -> dict[str, Any]:
    """What a webhook is told: codes and instants, as the facts have them; the sender adds id and source."""
    row = said.row
    data = {name: row[name] for name in CALLED if row.get(name) is not None}
    step = {"event": said.event, "action": said.action, "before": said.before} | dict(said.detail)
    return {"type": f"cn.sanji.notice.{said.event}.v1", "time": said.at, "subject": row["id"],
            "data": data | {name: value for name, value in step.items() if value is not None}}  # fmt: skip


def put(tx: Tx, target: str, kind: str, detail: Mapping[str, Any]) -> None:
    """Write a notice of no case for one target, which no rule can leave out."""
    tx.execute(
        _ADD,
        {"event": tx.new_id(), "target": target, "case_id": None, "kind": kind, "at": stamp(tx.now()), "actor": "node",
         "detail": dict(detail)},
    )  # fmt: skip


# Reading -------------------------------------------------------------------------------------------------------------------


def targets(caller: Caller) -> list[str]:
    """As whom somebody is told. Who acts for a department without naming one acts for all, which `*` stands for."""
    found = [f"account:{caller.name}", *(f"role:{role}" for role in sorted(caller.roles))]
    if caller.roles & {"department", "handler"}:
        found += [f"department:{name}" for name in sorted(caller.departments)] or [EVERY_DEPARTMENT]
    return found


def mine(
    connection: Connection, caller: Caller, *, unread: bool = False, before: str | None = None, limit: int = 50
) -> tuple[list[dict[str, Any]], str | None]:
    """(notices, the newest first, each happening once; `before` of the next page, None on the last)."""
    found: dict[str, dict[str, Any]] = {}
    for row in connection.execute(_wanted(caller, unread, before, limit + 1)).mappings():
        found.setdefault(row["event"], {name: value for name, value in row.items() if name != "target"})
    items = [found[event] for event in sorted(found, reverse=True)]
    return items[:limit], items[limit - 1]["event"] if len(items) > limit else None


def count_unread(connection: Connection, caller: Caller) -> int:
    """How many happenings are unread; beyond a hundred nobody counts any more."""
    rows = _wanted(caller, True, None, MOST_COUNTED).subquery()
    return min(MOST_COUNTED, int(connection.execute(select(func.count(rows.c.event.distinct()))).scalar_one()))


def _wanted(caller: Caller, unread: bool, before: str | None, most: int, only: Sequence[str] | None = None) -> Any:
    """The newest rows of each target, of which the newest of all are certainly part."""
    seen, other = and_(read.c.event == notices.c.event, read.c.account == caller.name), read.alias()
    known = (other.c.event == notices.c.event, other.c.account == caller.name)
    parts = []
    for target in targets(caller):
        whom = _any_department() if target == EVERY_DEPARTMENT else notices.c.target == target
        query = select(notices, read.c.at.label("read_at")).outerjoin(read, seen).where(whom, notices.c.actor != caller.name)
        if unread:
            # Not by the missing half of the join, of which a planner believes that it is rare.
            query = query.where(~select(other.c.event).where(*known).exists())
        if before is not None:
            query = query.where(notices.c.event < before)
        if only is not None:
            query = query.where(notices.c.event.in_(only))
        parts.append(select(query.order_by(notices.c.event.desc()).limit(most).subquery()))
    return union_all(*parts)


def _any_department() -> Any:
    """One row of each happening that some department was told of."""
    other = notices.alias()
    first = select(func.min(other.c.target)).where(other.c.event == notices.c.event, other.c.target.startswith("department:"))
    return and_(notices.c.target.startswith("department:"), notices.c.target == first.scalar_subquery())


def mark_read(tx: Tx, caller: Caller, wanted: Sequence[str] | None) -> int:
    """Note that somebody has read these of his notices, or all; answers how many were new to him. Others' are passed over."""
    known: set[str] = set()
    while True:
        rows = _wanted(caller, True, None, MARKED, wanted).subquery()
        found = set(tx.execute(select(rows.c.event).distinct()).scalars())
        if not found:
            return len(known)
        known |= found
        marks = [{"of": caller.name, "what": event, "now": stamp(tx.now())} for event in found]
        tx.execute(_READ[tx.connection.dialect.name], marks)


def forget(tx: Tx, most: int) -> int:
    """Delete notices that are old, and who read them; at most so many; answers how many."""
    old = select(notices.c.event).where(notices.c.at < stamp(tx.now() - KEPT)).limit(most)
    gone = list(tx.execute(old).scalars())
    if gone:
        tx.execute(delete(read).where(read.c.event.in_(gone)))
        tx.execute(delete(notices).where(notices.c.event.in_(gone)))
    return len(gone)
