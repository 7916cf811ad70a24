"""The weekly digest 周报: what was opened and closed last week, what is overdue, what is oldest, for roles and departments.

Made once a week whatever the number of copies, because a digest is a row that one transaction writes together with what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import JSON, Column, Connection, Engine, String, Table, func, insert, literal, or_, select

from services.case import book, domain, notices, outbox
from services.case.notices import EVERY_DEPARTMENT, targets
from services.case.tables import INSTANT, cases, metadata
from services.case.telling import DigestRule
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx, reading
from shared.writer import Writer

digests = Table(
    "case_digests",
    metadata,
    Column("week", String(8), primary_key=True),
    Column("target", String(140), primary_key=True),
    Column("figures", JSON, nullable=False),
    Column("made_at", INSTANT, nullable=False),
)
"""`week` as 2026-W10: the one that the figures are of; `target` is `role:` or `department:` and a name."""

PAUSE = 20.0
WEEK = timedelta(days=7)
Figures = dict[str, dict[str, Any]]
"""By target."""


@dataclass(frozen=True)
class Week:
    """A week in a zone: its name, its instants from the first to before the next, and when its digest is due."""

    name: str
    begin: datetime
    end: datetime
    due: datetime


def last_week(at: datetime, zone: ZoneInfo, rule: DigestRule) -> Week:
    """The week before the one of `at`. Days are counted on the calendar: where clocks change a week is not 168 hours."""
    today = at.astimezone(zone).date()
    monday = today - timedelta(days=today.weekday())
    begin, end = (datetime.combine(day, time(), zone) for day in (monday - WEEK, monday))
    year, number, _ = (monday - WEEK).isocalendar()
    due = datetime.combine(monday + timedelta(days=rule.weekday), time(rule.hour), zone)
    return Week(f"{year}-W{number:02d}", begin, end, due)


def figures(connection: Connection, rule: DigestRule, week: Week, at: datetime) -> Figures:
    """The figures for everybody whom the rule names."""
    found: Figures = {}
    if rule.roles:
        whole = _figures(connection, week, at, split=False).get("", _empty())
        found |= {f"role:{name}": whole for name in rule.roles}
    if rule.departments:
        split = _figures(connection, week, at, split=True)
        found |= {f"department:{name}": one for name, one in split.items() if name}
    return found


def _empty() -> dict[str, Any]:
    return {"opened": 0, "closed": 0, "open": 0, "overdue": 0, "supervised": 0, "oldest": None}


def _figures(connection: Connection, week: Week, at: datetime, *, split: bool) -> Figures:
    """By department, or for all together under the empty name; in one pass over what is open or ended in that week."""
    whose = func.coalesce(cases.c.department, "") if split else literal("", String)
    begin, end = stamp(week.begin), stamp(week.end)
    going = cases.c.state.in_(domain.OPEN)
    found: Figures = {}

    def count(name: str, *where: Any) -> None:
        query = select(whose.label("whose"), func.count()).where(*where).group_by("whose")
        for owner, number in connection.execute(query):
            found.setdefault(owner, _empty())[name] = number

    count("opened", cases.c.reported_at >= begin, cases.c.reported_at < end)
    count("closed", cases.c.state.in_(("closed", "forced")), cases.c.ended_at >= begin, cases.c.ended_at < end)
    count("open", going)
    count("overdue", going, cases.c.handled_at.is_(None), cases.c.due_at < stamp(at))
    count("supervised", going, cases.c.reply_by.is_not(None))
    _add_oldest(connection, found, whose, going)
    return found


def _add_oldest(connection: Connection, found: Figures, whose: Any, going: Any) -> None:
    first = select(whose.label("whose"), func.min(cases.c.reported_at).label("first")).where(going).group_by("whose").subquery()
    query = select(first.c.whose, cases.c.number, cases.c.category, cases.c.reported_at).join(
        cases, (whose == first.c.whose) & (cases.c.reported_at == first.c.first) & going
    )
    for owner, number, category, reported_at in connection.execute(query):
        found[owner]["oldest"] = {"number": number, "category": category, "reported_at": reported_at}


@dataclass
class Digest:
    """The loop of one process."""

    engine: Engine
    writer: Writer
    zone: ZoneInfo

    async def turn(self) -> None:
        if (made := await asyncio.to_thread(self._made)) is not None:
            week, found = made
            await asyncio.wrap_future(self.writer.submit(lambda tx: send(tx, week, found)))
        await asyncio.sleep(PAUSE)

    def _made(self) -> tuple[str, Figures] | None:
        """The figures where a digest is due and is not there; counted aside, because that reads many cases."""
        at = self.writer.now()
        with reading(self.engine) as connection:
            rule = book.of(connection).rules.digest
            if rule is None:
                return None
            week = last_week(at, self.zone, rule)
            if at < week.due or _there(connection, week.name):
                return None
            return week.name, figures(connection, rule, week, at)


def _there(connection: Connection, week: str) -> bool:
    return connection.execute(select(digests.c.week).where(digests.c.week == week).limit(1)).first() is not None


def send(tx: Tx, week: str, found: Figures) -> int:
    """Write the digests of a week and tell of them; answers how many, none where another copy was first."""
    if _there(tx.connection, week):
        return 0
    known, at = book.of(tx.connection), stamp(tx.now())
    # One for nobody as well, so that a week in which there is nothing to tell counts as done.
    every: Figures = {"": {}} | found
    tx.execute(insert(digests), [{"week": week, "target": t, "figures": f, "made_at": at} for t, f in every.items()])
    for target in found:
        notices.put(tx, target, "digest", {"week": week})
    outbox.put(tx, _mails(known, week, found))
    return len(found)


def _mails(known: book.Book, week: str, found: Figures) -> Iterable[outbox.Draft]:
    for target, one in found.items():
        for account in known.digest.get(target, ()):
            yield outbox.Draft("mail", f"account:{account}", {"kind": "digest", "week": week, "target": target, "figures": one})


def mine(connection: Connection, caller: Caller, limit: int = 20) -> list[dict[str, Any]]:
    """The digests that are for somebody, the newest first."""
    names = targets(caller)
    whom: list[Any] = [digests.c.target.in_(names)]
    if EVERY_DEPARTMENT in names:
        whom.append(digests.c.target.startswith("department:"))
    query = select(digests).where(or_(*whom)).order_by(digests.c.week.desc(), digests.c.target).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]
