"""The node's calendar: announced public holidays from a source, the node's own days beside them, and its working periods.

The topology names the source: `cn` (the mainland's announcements, from the package chinesecalendar) or `none` (weekends only).
What a case's clock once computed is not touched by a change here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from chinese_calendar.constants import Holiday, holidays, workdays  # type: ignore[import-untyped]
from sqlalchemy import JSON, Boolean, Column, Connection, Integer, String, Table, delete, insert, select

from services.case.tables import INSTANT, metadata
from services.case.worktime import DAY, DEFAULT, Day, Edition, Season, WorkCalendar
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Invalid
from shared.kept import Kept

days_table = Table(
    "case_calendar_days",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("name_zh", String(40), nullable=False),
    Column("name_en", String(80), nullable=False),
    Column("source", String(200), nullable=False),
    Column("entered_at", INSTANT, nullable=False),
)
"""The node's own days: they stand before those of the source."""

years_table = Table(
    "case_calendar_years",
    metadata,
    Column("year", Integer, primary_key=True, autoincrement=False),
    Column("complete", Boolean, nullable=False),
    Column("entered_at", INSTANT, nullable=False),
)
"""Years that were loaded here; where the list is complete, the source is not asked for that year."""

periods_table = Table(
    "case_calendar_periods",
    metadata,
    Column("valid_from", String(10), primary_key=True),
    Column("seasons", JSON, nullable=False),
    Column("entered_at", INSTANT, nullable=False),
)
"""Editions of the working periods: each holds until the next begins. JSON: [[[month, day], [month, day], [[minute, minute]]]]."""

Special = dict[date, Day]


@dataclass(frozen=True)
class Source:
    """Where public holidays come from: the days that differ from Monday to Friday, and the years announced, None for all."""

    days: Special
    years: frozenset[int] | None


@cache
def _mainland() -> Source:
    zh = {h.value: h.chinese for h in Holiday}
    found = {d: Day("holiday", zh[en], en, "cn") for d, en in holidays.items()}
    found |= {d: Day("workday", zh[en], en, "cn") for d, en in workdays.items()}
    return Source(found, frozenset(d.year for d in holidays))


@cache
def _weekends_only() -> Source:
    return Source({}, None)


SOURCES: dict[str, Callable[[], Source]] = {"cn": _mainland, "none": _weekends_only}


def calendar_of(zone: ZoneInfo, name: str) -> Kept[WorkCalendar]:
    """The calendar of a node in this zone with the holidays of the source `name`. Raises Invalid for an unknown source."""
    if name not in SOURCES:
        raise Invalid(f"no calendar {name!r}; known are: {', '.join(SOURCES)}", field="/calendar")
    return Kept("calendar", lambda connection: _made(zone, name, *_own(connection), _editions(connection)))


def _made(zone: ZoneInfo, name: str, own: Special, complete: frozenset[int], editions: Sequence[Edition]) -> WorkCalendar:
    source = SOURCES[name]()
    days = {d: day for d, day in source.days.items() if d.year not in complete} | own
    years = None if source.years is None else source.years | complete
    return WorkCalendar(zone, tuple(editions) or (DEFAULT,), days, years, name)


def _own(connection: Connection) -> tuple[Special, frozenset[int]]:
    """The node's own days, and the years of which they are all."""
    rows = connection.execute(select(days_table)).mappings()
    days = {date.fromisoformat(r["day"]): Day(r["kind"], r["name_zh"], r["name_en"], r["source"]) for r in rows}
    complete = connection.execute(select(years_table.c.year).where(years_table.c.complete)).scalars()
    return days, frozenset(complete)


def _editions(connection: Connection) -> list[Edition]:
    rows = connection.execute(select(periods_table).order_by(periods_table.c.valid_from)).mappings()
    return [Edition(date.fromisoformat(r["valid_from"]), tuple(_season(*s) for s in r["seasons"])) for r in rows]


def _season(first: Sequence[int], last: Sequence[int], periods: Sequence[Sequence[int]]) -> Season:
    return Season((first[0], first[1]), (last[0], last[1]), tuple((a, b) for a, b in periods))


@dataclass(frozen=True)
class Loaded:
    """What loading a year changed, or would change: own days, and days that become or cease to be work days.

    The latter two are None where the year was not announced before, or is not after it.
    """

    announced: bool
    added: list[date]
    removed: list[date]
    changed: list[date]
    now_worked: list[date] | None
    now_free: list[date] | None


def compare(connection: Connection, kept: Kept[WorkCalendar], year: int, given: Special, *, complete: bool) -> Loaded:
    """What `load_year` would do. Raises Invalid for the same reasons."""
    before = kept.get(connection)
    own, all_complete = _own(connection)
    others = {d: day for d, day in own.items() if d.year != year}
    years = all_complete | {year} if complete else all_complete - {year}
    after = _made(before.zone, before.name, others | given, years, before.editions)
    _sensible(before, year, given, complete=complete)
    old = {d: day for d, day in own.items() if d.year == year}
    worked: list[list[date]] | None = None
    if before.known(year) and after.known(year):
        differ = [d for d in _days_of(year) if before.works(d) != after.works(d)]
        worked = [[d for d in differ if after.works(d)], [d for d in differ if not after.works(d)]]
    return Loaded(
        after.known(year), sorted(given.keys() - old.keys()), sorted(old.keys() - given.keys()),
        sorted(d for d in given.keys() & old.keys() if given[d] != old[d]),
        worked[0] if worked else None, worked[1] if worked else None,
    )  # fmt: skip


def load_year(tx: Tx, kept: Kept[WorkCalendar], year: int, given: Special, *, complete: bool) -> Loaded:
    """Replace the node's own days of `year`; with `complete` they are all there are, and the year is announced by them.

    Raises Invalid for a day of another year, for a work day that is one anyway, and for a complete list without a holiday.
    """
    found = compare(tx.connection, kept, year, given, complete=complete)
    at = stamp(tx.now())
    tx.execute(delete(days_table).where(days_table.c.day.between(f"{year:04}-01-01", f"{year:04}-12-31")))
    tx.execute(delete(years_table).where(years_table.c.year == year))
    tx.execute(insert(years_table), {"year": year, "complete": complete, "entered_at": at})
    if given:
        rows = [
            {"day": d.isoformat(), "kind": day.kind, "name_zh": day.zh, "name_en": day.en, "source": day.source, "entered_at": at}
            for d, day in given.items()
        ]
        tx.execute(insert(days_table), rows)
    kept.changed(tx.connection)
    return found


def _sensible(before: WorkCalendar, year: int, given: Special, *, complete: bool) -> None:
    for n, (day, what) in enumerate(given.items()):
        where = f"/days/{n}/day"
        if day.year != year:
            raise Invalid(f"{day} is no day of {year}", field=where)
        announced = SOURCES[before.name]().days.get(day)
        taken = not complete and announced is not None and announced.kind == "holiday"
        if what.kind == "workday" and day.weekday() < 5 and not taken:
            raise Invalid(f"{day} is a work day anyway", field=where)
    if complete and not any(day.kind == "holiday" for day in given.values()):
        raise Invalid("the complete list of a year has holidays", field="/days")


def _days_of(year: int) -> Iterable[date]:
    day = date(year, 1, 1)
    while day.year == year:
        yield day
        day += DAY


def set_periods(tx: Tx, kept: Kept[WorkCalendar], editions: Sequence[Edition]) -> None:
    """Replace all editions of the working periods; without any the default ones hold. Raises Invalid for two of one day."""
    starts = [e.valid_from for e in editions]
    if twice := next((n for n, start in enumerate(starts) if start in starts[:n]), None):
        raise Invalid("two editions begin on the same day", field=f"/editions/{twice}/valid_from")
    tx.execute(delete(periods_table))
    if editions:
        rows = [
            {
                "valid_from": e.valid_from.isoformat(), "entered_at": stamp(tx.now()),
                "seasons": [[s.first, s.last, s.periods] for s in e.seasons],
            }
            for e in editions
        ]  # fmt: skip
        tx.execute(insert(periods_table), rows)
    kept.changed(tx.connection)


def complete_here(connection: Connection, year: int) -> bool:
    """Whether the days of `year` were loaded here as a complete list."""
    query = select(years_table.c.complete).where(years_table.c.year == year)
    return bool(connection.execute(query).scalar())


def overview(calendar: WorkCalendar, year: int) -> dict[str, Any]:
    """Days of `year` that differ from Monday to Friday, and how many work days it has, None where it is not announced."""
    special = sorted((d, day) for d, day in calendar.days.items() if d.year == year)
    known = calendar.known(year)
    return {
        "year": year,
        "calendar": calendar.name,
        "announced": known,
        "work_days": sum(calendar.works(d) for d in _days_of(year)) if known else None,
        "days": [
            {"day": d.isoformat(), "kind": day.kind, "name_zh": day.zh, "name_en": day.en, "source": day.source}
            for d, day in special
        ],
    }
