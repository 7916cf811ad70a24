"""HTTP of the node's calendar: its days and working periods, loading a year, and what a limit comes to and why."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.case import clock
from services.case.api import Here
from services.case.calendar import Special, compare, complete_here, load_year, overview, set_periods
from services.case.limits import Limit
from services.case.texts import Plain
from services.case.worktime import DEFAULT, FIRST, LAST, Day, Edition, Season
from shared.auth import Caller, allow, public
from shared.clock import stamp
from shared.database import reading
from shared.errors import Invalid
from shared.web import refuse_unknown

router = APIRouter(prefix="/api/case/v1", tags=["case"])
OPEN = public("when an office works and by when it owes an answer is on its door")
MONTH_DAY, TIME = r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"
DATE, LIMIT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", r"^[0-9]{1,5}(\.[0-9]{1,4})?(UH|UD|WH|WD|ND)$"
MOMENT: dict[str, Any] = {"format": "date-time"}
CIVIL: dict[str, Any] = {"format": "date"}
Year = Annotated[int, Path(ge=FIRST, le=LAST, examples=[2026])]


class NewDay(BaseModel):
    """A holiday 节假日, or a day of a weekend that is worked 调休."""

    model_config = ConfigDict(extra="forbid", strict=True)
    day: str = Field(max_length=10, pattern=DATE, examples=["2027-02-05"], json_schema_extra=CIVIL)
    kind: Literal["holiday", "workday"]
    name_zh: Plain(40, 1) = Field(examples=["春节"])  # type: ignore[valid-type]
    name_en: Plain(80, 1) = Field(examples=["Spring Festival"])  # type: ignore[valid-type]


class NewYear(BaseModel):
    """The node's own days of a year; they replace all that were entered for it before."""

    model_config = ConfigDict(extra="forbid", strict=True)
    days: list[NewDay] = Field(max_length=366)
    complete: bool = Field(False, description="these are all special days of the year, which is announced by them")
    source: Plain(200, 1) = Field(description="who announced it, and where", examples=["国务院办公厅通知"])  # type: ignore[valid-type]


class SpecialDay(BaseModel):
    """A day that is not what its weekday says."""

    day: str
    kind: Literal["holiday", "workday"]
    name_zh: str
    name_en: str
    source: str = Field(description="name of the calendar, or what was given when it was entered here")


class CalendarYear(BaseModel):
    """A year of the calendar. A year that is not announced has no deadlines in work time."""

    year: int
    calendar: str = Field(description="source of the public holidays: `cn`, or `none` for weekends only")
    announced: bool
    complete: bool = Field(description="loaded here as a complete list, so that the source is not asked")
    work_days: int | None
    days: list[SpecialDay]


class YearLoaded(BaseModel):
    """What changed, or would change: own days, and days that are worked now or free now where both calendars are known."""

    year: int
    dry_run: bool
    announced: bool = Field(description="whether the year is announced after it")
    added: list[str]
    removed: list[str]
    changed: list[str]
    now_worked: list[str] | None
    now_free: list[str] | None


class Words(BaseModel):
    """The same in two languages."""

    zh: str
    en: str


class Deadline(BaseModel):
    """What a limit comes to on this node's calendar, and why."""

    limit: str
    words: Words
    start: str
    due: str
    warn: str = Field(description="when 80 % of the limit is used")
    explanation: Words


class Shift(BaseModel):
    """A working period of a day."""

    model_config = ConfigDict(extra="forbid", strict=True)
    start: str = Field(max_length=5, pattern=TIME, examples=["08:00"])
    end: str = Field(max_length=5, pattern=TIME, examples=["12:00"])


class SeasonOfYear(BaseModel):
    """Working periods from one day of the year to another, both included."""

    model_config = ConfigDict(extra="forbid", strict=True)
    first: str = Field(max_length=5, pattern=MONTH_DAY, examples=["01-01"])
    last: str = Field(max_length=5, pattern=MONTH_DAY, examples=["12-31"])
    periods: list[Shift] = Field(min_length=1, max_length=12)


class PeriodEdition(BaseModel):
    """Working periods that hold from a day until the next edition begins."""

    model_config = ConfigDict(extra="forbid", strict=True)
    valid_from: str = Field(max_length=10, pattern=DATE, examples=["2026-01-01"], json_schema_extra=CIVIL)
    seasons: list[SeasonOfYear] = Field(min_length=1, max_length=12)


class Periods(BaseModel):
    """All editions of the working periods; without any the default ones hold, as they do before the first."""

    model_config = ConfigDict(extra="forbid", strict=True)
    editions: list[PeriodEdition] = Field(max_length=100)


class PeriodsNow(Periods):
    """The editions, and what holds before the first of them."""

    default: list[Shift]


@router.get("/calendar/periods", dependencies=[OPEN], response_model=PeriodsNow)
def periods(request: Request, here: Here) -> dict[str, Any]:
    """The working periods of this node."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        calendar = here.extra["around"].calendar.get(connection)
    default = DEFAULT.seasons[0].periods
    return {"editions": [_shown(e) for e in calendar.editions if e != DEFAULT], "default": _shifts(default)}


@router.put("/calendar/periods", response_model=PeriodsNow)
async def replace_periods(body: Periods, here: Here, _: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Replace all editions of the working periods. Deadlines that were computed already stay."""
    editions = [_edition(n, e) for n, e in enumerate(body.editions)]
    await asyncio.wrap_future(here.writer.submit(lambda tx: set_periods(tx, here.extra["around"].calendar, editions)))
    ordered = sorted(editions, key=lambda e: e.valid_from)
    return {"editions": [_shown(e) for e in ordered], "default": _shifts(DEFAULT.seasons[0].periods)}


@router.get("/calendar/{year}", dependencies=[OPEN], response_model=CalendarYear)
def year_of(year: Year, request: Request, here: Here) -> dict[str, Any]:
    """Holidays and swapped work days of a year."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        calendar = here.extra["around"].calendar.get(connection)
        return overview(calendar, year) | {"complete": complete_here(connection, year)}


@router.put("/calendar/{year}", response_model=YearLoaded)
async def load(
    year: Year, body: NewYear, request: Request, here: Here, _: Annotated[Caller, allow("administrator")],
    dry_run: Annotated[bool, Query(description="only say what would change")] = False,
) -> dict[str, Any]:  # fmt: skip
    """Load the days of a year; deadlines that were computed already stay."""
    refuse_unknown(request)
    kept, given = here.extra["around"].calendar, _days(body)
    if dry_run:
        found = await asyncio.to_thread(_compared, here, year, given, body.complete)
    else:
        work = here.writer.submit(lambda tx: load_year(tx, kept, year, given, complete=body.complete))
        found = await asyncio.wrap_future(work)
    texts = {name: [d.isoformat() for d in days] if isinstance(days, list) else days for name, days in vars(found).items()}
    return {"year": year, "dry_run": dry_run} | texts


def _compared(here: Here, year: int, given: Special, complete: bool) -> Any:
    with reading(here.engine) as connection:
        return compare(connection, here.extra["around"].calendar, year, given, complete=complete)


@router.get("/deadline", dependencies=[OPEN], response_model=Deadline)
def deadline(
    request: Request, here: Here,
    start: Annotated[
        str,
        Query(max_length=40, description="instant with offset", examples=["2026-03-06T17:20:00+08:00"], json_schema_extra=MOMENT),
    ],
    limit: Annotated[str, Query(pattern=LIMIT, description="amount and UH, UD, WH, WD or ND", examples=["2WD"])],
) -> dict[str, Any]:  # fmt: skip
    """By when a matter that begins at `start` is due, and why."""
    refuse_unknown(request)
    wanted, at = Limit.parse(limit), _instant(start)
    with reading(here.engine) as connection:
        calendar = here.extra["around"].calendar.get(connection)
    running = clock.start(calendar, wanted, at)
    return {
        "limit": str(wanted), "words": wanted.words(), "start": stamp(at), "due": stamp(running.due), "warn": stamp(running.warn),
        "explanation": clock.explain(calendar, running, at),
    }  # fmt: skip


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid("an instant is written like 2026-03-06T17:20:00+08:00", field="/start") from None
    if at.tzinfo is None or not FIRST < at.year < LAST:
        raise Invalid(f"an instant has its offset from UTC and lies between {FIRST + 1} and {LAST - 1}", field="/start")
    return at


def _days(body: NewYear) -> Special:
    found: Special = {}
    for n, new in enumerate(body.days):
        day = _date(new.day, f"/days/{n}/day")
        if day in found:
            raise Invalid(f"{day} is there twice", field=f"/days/{n}/day")
        found[day] = Day(new.kind, new.name_zh, new.name_en, body.source)
    return found


def _date(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid(f"there is no day {text}", field=where) from None


def _edition(n: int, given: PeriodEdition) -> Edition:
    """Raises Invalid naming the place in the body."""
    where = f"/editions/{n}"
    seasons = tuple(
        Season(
            _month_day(s.first, f"{where}/seasons/{i}/first"), _month_day(s.last, f"{where}/seasons/{i}/last"),
            tuple((_minute(p.start), _minute(p.end)) for p in s.periods),
        )
        for i, s in enumerate(given.seasons)
    )  # fmt: skip
    try:
        return Edition(_date(given.valid_from, f"{where}/valid_from"), seasons)
    except Invalid as error:
        inside = error.field or ""
        raise Invalid(error.detail, field=inside if inside.startswith(where) else where + inside) from None


def _month_day(text: str, where: str) -> tuple[int, int]:
    day = _date(f"2024-{text}", where)
    return day.month, day.day


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _shown(edition: Edition) -> dict[str, Any]:
    seasons = [
        {
            "first": f"{s.first[0]:02}-{s.first[1]:02}", "last": f"{s.last[0]:02}-{s.last[1]:02}", "periods": _shifts(s.periods),
        }
        for s in edition.seasons
    ]  # fmt: skip
    return {"valid_from": edition.valid_from.isoformat(), "seasons": seasons}


def _shifts(periods: tuple[tuple[int, int], ...]) -> list[dict[str, str]]:
    return [{"start": f"{a // 60:02}:{a % 60:02}", "end": f"{b // 60:02}:{b % 60:02}"} for a, b in periods]
