"""Working time of a node: what limits come to on its calendar; pure, and quick enough to file by.

Rules. Working time is when the clock on the wall of the node's zone shows a working period of a work day. Urgent hours (UH) and
work hours (WH) are real hours. Urgent and natural days (UD, ND) are days of the wall clock: a day later is the same time of day,
also over a change to summer time, and a part of a day is that part of it, however long it is. A work day (WD) is 8 work hours.
Spans are timedeltas of the unit's own kind: work time for WH and WD, 24 hours a day for UD and ND. A deadline is the first
instant at which the limit is used up: what ends with the working time of Friday is due on Friday and not on Monday morning.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from services.case.limits import WORKING, Limit, Unit
from shared.errors import Invalid

__all__ = [
    "DAY", "DEFAULT", "FIRST", "LAST", "MICRO", "Day", "Edition", "Limit", "Season", "Unannounced", "Unit", "WorkCalendar",
    "aligned", "due", "shift", "used",
]  # fmt: skip

EPOCH, MICRO, DAY = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1), timedelta(days=1)
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
FIRST, LAST = 1980, 2200
"""Civil years that a calendar can hold: earlier ones had clocks that differ by odd seconds."""


class Unannounced(Invalid):
    """The calendar of a year is needed and not known; it is never guessed."""

    def __init__(self, year: int, name: str) -> None:
        super().__init__(
            f"the work days of {year} are not announced in the calendar {name}: an administrator loads them with"
            f" PUT /api/case/v1/calendar/{year}, or installs a release of the calendar that has them",
            year=year,
        )
        self.year = year


@dataclass(frozen=True)
class Day:
    """A day that is not what its weekday says: a holiday 节假日, or a work day at a weekend 调休."""

    kind: Literal["holiday", "workday"]
    zh: str
    en: str
    source: str = "own"


@dataclass(frozen=True)
class Season:
    """Working periods from one month and day to another, both included; it may run over the turn of the year.

    Periods are (first minute, minute after the last) of the day, 0 to 1440: a night shift is two of them.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    periods: tuple[tuple[int, int], ...]

    def holds(self, day: date) -> bool:
        at = (day.month, day.day)
        return self.first <= at <= self.last if self.first <= self.last else at >= self.first or at <= self.last


@dataclass(frozen=True)
class Edition:
    """Working periods as they hold from a day on. Raises Invalid where they overlap or leave a day of the year without any."""

    valid_from: date
    seasons: tuple[Season, ...]

    def __post_init__(self) -> None:
        for s, season in enumerate(self.seasons):
            where, after = f"/seasons/{s}/periods", 0
            if not season.periods:
                raise Invalid("a season needs at least one working period", field=where)
            for p, (start, end) in enumerate(season.periods):
                if not after <= start < end <= 1440:
                    raise Invalid("working periods follow one another within one day", field=f"{where}/{p}")
                after = end
        for day in (date(2024, 1, 1) + timedelta(days=n) for n in range(366)):
            if (found := sum(s.holds(day) for s in self.seasons)) != 1:
                raise Invalid(f"{day:%m-%d} lies in {found} seasons instead of one", field="/seasons")

    def periods(self, day: date) -> tuple[tuple[int, int], ...]:
        return next(s.periods for s in self.seasons if s.holds(day))


DEFAULT = Edition(date.min, (Season((1, 1), (12, 31), ((480, 720), (840, 1080))),))
"""08:00 to 12:00 and 14:00 to 18:00 all the year."""


@dataclass(frozen=True)
class _Year:
    """Working time of a civil year: instants in microseconds since 1970, and the work done before each period of it."""

    starts: list[int]
    ends: list[int]
    before: list[int]
    total: int

    def done(self, at: int) -> int:
        """Work of this year until `at`."""
        i = bisect_right(self.starts, at) - 1
        return self.before[i] + min(at, self.ends[i]) - self.starts[i] if i >= 0 else 0

    def when(self, work: int) -> int:
        """The first instant by which `work`, above zero and at most the year's, is done."""
        i = bisect_left(self.before, work) - 1
        return self.starts[i] + work - self.before[i]


@dataclass(frozen=True, eq=False)
class WorkCalendar:
    """Which moments are working time 工作日历.

    `years` are the announced ones, None where no public holidays are followed so that every year is known; `days` say what
    differs from Monday to Friday. Tables are made for each year when it is first asked for.
    """

    zone: ZoneInfo
    editions: tuple[Edition, ...] = (DEFAULT,)
    days: Mapping[date, Day] = field(default_factory=dict)
    years: frozenset[int] | None = None
    name: str = "none"
    _tables: dict[int, _Year] = field(default_factory=dict, repr=False)

    def known(self, year: int) -> bool:
        return FIRST <= year <= LAST and (self.years is None or year in self.years)

    def works(self, day: date) -> bool:
        """Raises Unannounced."""
        if not self.known(day.year):
            raise Unannounced(day.year, self.name)
        special = self.days.get(day)
        return day.weekday() < 5 if special is None else special.kind == "workday"

    def periods(self, day: date) -> tuple[tuple[int, int], ...]:
        """The working periods of a work day, in minutes of the day; before the first edition the default ones hold."""
        held = [e for e in self.editions if e.valid_from <= day]
        return max(held, key=lambda e: e.valid_from, default=DEFAULT).periods(day)

    def year(self, year: int) -> _Year:
        """Raises Unannounced."""
        table = self._tables.get(year)
        if table is None:
            table = self._tables[year] = self._build(year)
        return table

    def _build(self, year: int) -> _Year:
        starts: list[int] = []
        ends: list[int] = []
        before: list[int] = []
        total, day, offset = 0, date(year, 1, 1), self._offset(date(year, 1, 1))
        while day.year == year:
            following = self._offset(day + DAY)
            if self.works(day):
                for start, end in self._instants(day, offset) if offset == following else self._minutes(day):
                    starts.append(start)
                    ends.append(end)
                    before.append(total)
                    total += end - start
            day, offset = day + DAY, following
        return _Year(starts, ends, before, total)

    def _offset(self, day: date) -> timedelta:
        return datetime.combine(day, time(0), self.zone).utcoffset() or timedelta(0)

    def _instants(self, day: date, offset: timedelta) -> Iterable[tuple[int, int]]:
        midnight = micros(datetime.combine(day, time(0), UTC) - offset)
        return ((midnight + a * MINUTE_US, midnight + b * MINUTE_US) for a, b in self.periods(day))

    def _minutes(self, day: date) -> Iterable[tuple[int, int]]:
        """A day on which the clocks change, minute by minute as the clock on the wall shows them."""
        periods, found = self.periods(day), list[tuple[int, int]]()
        first = micros(datetime.combine(day, time(0), UTC) - DAY)
        for at in range(first, first + 3 * DAY_US, MINUTE_US):
            wall = instant(at).astimezone(self.zone)
            minute = wall.hour * 60 + wall.minute
            if wall.date() == day and any(a <= minute < b for a, b in periods):
                joined = found and found[-1][1] == at
                found[-1:] = [(found[-1][0], at + MINUTE_US)] if joined else [*found[-1:], (at, at + MINUTE_US)]
        return found


def micros(at: datetime) -> int:
    """Microseconds since 1970. Raises ValueError for a moment without offset."""
    if at.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC")
    return (at - EPOCH) // MICRO


def instant(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)


def due(calendar: WorkCalendar, start: datetime, limit: Limit) -> datetime:
    """The deadline in UTC. Raises Unannounced where a limit in working time runs into a year that is not known."""
    return shift(calendar, start, limit.span, limit.unit)


def shift(calendar: WorkCalendar, moment: datetime, by: timedelta, unit: Unit) -> datetime:
    """The first instant by which `by`, zero or more of the unit's kind of time, has passed since `moment`; in UTC.

    A moment outside working time counts from the next working moment. Raises Unannounced.
    """
    if by < timedelta(0):
        raise ValueError("a moment is only moved to later")
    start, span = micros(moment), by // MICRO
    if unit not in WORKING:
        return instant(start + span) if unit == "UH" else _days_on(calendar.zone, instant(start), span)
    if not span:
        return instant(start)
    year = moment.astimezone(calendar.zone).year
    table = calendar.year(year)
    work = table.done(start) + span
    while work > table.total:
        work -= table.total
        year += 1
        table = calendar.year(year)
    return instant(table.when(work))


def used(calendar: WorkCalendar, start: datetime, end: datetime, unit: Unit) -> timedelta:
    """How much of the unit's kind of time lies between the two; below zero where `end` is the earlier. Raises Unannounced."""
    # As numbers, because the difference of two datetimes of one zone is that of its clock on the wall.
    since, until = micros(start), micros(end)
    if until < since:
        return -used(calendar, end, start, unit)
    if unit == "UH":
        return (until - since) * MICRO
    if unit not in WORKING:
        return _days_between(calendar.zone, instant(since), instant(until))
    first, last = start.astimezone(calendar.zone).year, end.astimezone(calendar.zone).year
    work = calendar.year(last).done(until) - calendar.year(first).done(since)
    return timedelta(microseconds=work + sum(calendar.year(y).total for y in range(first, last)))


def aligned(calendar: WorkCalendar, moment: datetime) -> datetime:
    """The moment itself in working time, otherwise the next working moment. Raises Unannounced."""
    return shift(calendar, moment, MICRO, "WH") - MICRO


def _days_on(zone: ZoneInfo, start: datetime, span: int) -> datetime:
    """The instant `span` microseconds later, of which DAY_US make a day of the wall clock, however long it is."""
    days, rest = divmod(span, DAY_US)
    base = _same_time(zone, start, days)
    if not rest:
        return base
    length = (_same_time(zone, start, days + 1) - base) // MICRO
    return base + timedelta(microseconds=-(-rest * length // DAY_US))


def _days_between(zone: ZoneInfo, start: datetime, end: datetime) -> timedelta:
    days = max(0, (end - start) // DAY - 1)
    while (following := _same_time(zone, start, days + 1)) <= end:
        days += 1
    base = _same_time(zone, start, days)
    rest, length = (end - base) // MICRO, (following - base) // MICRO
    return timedelta(days=days, microseconds=rest * DAY_US // length)


def _same_time(zone: ZoneInfo, start: datetime, days: int) -> datetime:
    """The same time of day `days` later: the first of two where clocks are put back, as much later as they were put forward."""
    if not days:
        return start
    wall = start.astimezone(zone).replace(tzinfo=None, fold=0) + timedelta(days=days)
    return wall.replace(tzinfo=zone).astimezone(UTC)
