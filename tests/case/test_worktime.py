"""Working time against a slow and obviously right count, minute by minute and second by second, over random calendars."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.case.worktime import (
    Day,
    Edition,
    Limit,
    Season,
    Unannounced,
    Unit,
    WorkCalendar,
    aligned,
    due,
    shift,
    used,
)
from shared.errors import Invalid

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
ZONES = [
    "Asia/Shanghai", "Asia/Urumqi", "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu",
    "America/Santiago", "Asia/Beirut", "Africa/Casablanca",
]  # fmt: skip
"""Some never change their clocks, some at night, at midnight, or by half an hour."""


@dataclass(frozen=True)
class Plain:
    """A calendar as plain data, with the rule that a child would use to say whether an office works now."""

    zone: ZoneInfo
    winter: tuple[tuple[int, int], ...]
    summer: tuple[tuple[int, int], ...]
    turn: tuple[int, int]
    back: tuple[int, int]
    holidays: frozenset[date]
    worked: frozenset[date]

    def works_at(self, at: datetime) -> bool:
        wall = at.astimezone(self.zone)
        day, minute = wall.date(), wall.hour * 60 + wall.minute
        if day in self.holidays or (day.weekday() >= 5 and day not in self.worked):
            return False
        in_summer = self.turn <= (day.month, day.day) < self.back
        return any(a <= minute < b for a, b in (self.summer if in_summer else self.winter))

    def due(self, start: datetime, span: timedelta, step: timedelta) -> datetime:
        at, left = start, span
        while left > timedelta(0):
            left -= step if self.works_at(at) else timedelta(0)
            at += step
        return at

    def used(self, start: datetime, end: datetime) -> timedelta:
        minutes = (end - start) // MINUTE
        return sum((MINUTE for n in range(minutes) if self.works_at(start + n * MINUTE)), timedelta(0))

    def quick(self) -> WorkCalendar:
        summer = Season(self.turn, _before(self.back), self.summer)
        winter = Season(self.back, _before(self.turn), self.winter)
        days = {d: Day("workday", "班", "worked") for d in self.worked} | {d: Day("holiday", "假", "free") for d in self.holidays}
        years = frozenset(range(2024, 2028))
        return WorkCalendar(self.zone, (Edition(date(2000, 1, 1), (summer, winter)),), days, years, "test")


def _before(month_day: tuple[int, int]) -> tuple[int, int]:
    day = date(2024, *month_day) - timedelta(days=1)
    return day.month, day.day


def _periods(cuts: list[int]) -> tuple[tuple[int, int], ...]:
    ordered = sorted(cuts)
    return tuple(zip(ordered[::2], ordered[1::2], strict=False))


periods = (
    st.lists(st.integers(0, 1440), min_size=2, max_size=7, unique=True)
    .map(_periods)
    .filter(lambda found: sum(b - a for a, b in found) >= 120)
)
"""At least two hours a day, so that counting minutes comes to an end."""
WINDOWS = [date(2025, 12, 25), date(2026, 3, 3), date(2026, 3, 24), date(2026, 4, 1), date(2026, 9, 4), date(2026, 10, 22)]
"""The turn of the year, and times at which clocks change somewhere."""
near = st.builds(lambda d, n: d + timedelta(days=n), st.sampled_from(WINDOWS), st.integers(0, 13))
moments = st.builds(lambda d, n: datetime(d.year, d.month, d.day, tzinfo=UTC) + n * MINUTE, near, st.integers(0, 1439))
calendars = st.builds(
    Plain, st.sampled_from(ZONES).map(ZoneInfo), periods, periods, st.sampled_from([(3, 8), (5, 1), (4, 3)]),
    st.sampled_from([(10, 1), (11, 1), (9, 6)]), st.frozensets(near, max_size=10), st.frozensets(near, max_size=6),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(calendars, moments, st.integers(1, 900))
def test_the_deadline_is_that_of_counting_minutes(plain: Plain, start: datetime, minutes: int) -> None:
    calendar, span = plain.quick(), minutes * MINUTE
    right = plain.due(start, span, MINUTE)
    assert shift(calendar, start, span, "WH") == right
    assert used(calendar, start, right, "WH") == span
    if minutes % 15 == 0:
        assert due(calendar, start, Limit(minutes / 60, "WH")) == right


@settings(max_examples=60, deadline=None)
@given(calendars, moments, st.integers(0, 59), st.integers(1, 400))
def test_the_deadline_is_that_of_counting_seconds(plain: Plain, start: datetime, after: int, seconds: int) -> None:
    start, span = start + after * SECOND, seconds * SECOND
    calendar = plain.quick()
    # From just before the next working moment on, so that the count by seconds ends some day.
    near_by = max(start, aligned(calendar, start) - 90 * SECOND)
    assert shift(calendar, near_by, span, "WH") == plain.due(near_by, span, SECOND)


@settings(max_examples=100, deadline=None)
@given(calendars, moments, st.integers(0, 9 * 1440))
def test_used_is_that_of_counting_minutes(plain: Plain, start: datetime, minutes: int) -> None:
    calendar, end = plain.quick(), start + minutes * MINUTE
    right = plain.used(start, end)
    assert used(calendar, start, end, "WH") == used(calendar, start, end, "WD") == right
    assert used(calendar, end, start, "WD") == -right


@settings(max_examples=100, deadline=None)
@given(calendars, moments)
def test_a_moment_outside_working_time_moves_to_the_next_working_moment(plain: Plain, start: datetime) -> None:
    calendar, at = plain.quick(), start
    while not plain.works_at(at):
        at += MINUTE
    assert aligned(calendar, start) == at
    assert shift(calendar, start, 90 * SECOND, "WH") == shift(calendar, at, 90 * SECOND, "WH")


@settings(max_examples=200, deadline=None)
@given(calendars, moments, st.integers(1, 4000), st.integers(1, 4000), st.sampled_from(["WH", "WD", "UH"]))
def test_two_moves_are_one(plain: Plain, start: datetime, one: int, two: int, unit: Unit) -> None:
    calendar, a, b = plain.quick(), one * SECOND, two * SECOND
    assert shift(calendar, shift(calendar, start, a, unit), b, unit) == shift(calendar, start, a + b, unit)
    assert shift(calendar, start, timedelta(0), unit) == start


@settings(max_examples=200, deadline=None)
@given(calendars, moments, st.integers(1, 400), st.sampled_from(["UD", "ND"]))
def test_natural_days_end_at_the_same_time_of_day(plain: Plain, start: datetime, days: int, unit: Unit) -> None:
    calendar = plain.quick()
    end = due(calendar, start, Limit(days, unit))
    there = [start + timedelta(days=days, minutes=m) for m in range(-180, 181, 30)]
    wanted = start.astimezone(plain.zone).replace(tzinfo=None) + timedelta(days=days)
    same = [t for t in there if t.astimezone(plain.zone).replace(tzinfo=None) == wanted]
    if same:
        assert end == same[0], "the first moment at which the clock on the wall shows it"
    else:
        assert end.astimezone(plain.zone).replace(tzinfo=None) > wanted, "put forward: that time does not come that day"
    assert used(calendar, start, end, unit) == timedelta(days=days)


@settings(max_examples=200, deadline=None)
@given(calendars, moments, st.lists(st.integers(1, 5 * 86400), min_size=2, max_size=2), st.sampled_from(["UD", "ND"]))
def test_parts_of_natural_days_are_exact_and_in_order(plain: Plain, start: datetime, spans: list[int], unit: Unit) -> None:
    calendar = plain.quick()
    short, long = (shift(calendar, start, s * SECOND, unit) for s in sorted(spans))
    assert start < short <= long
    for seconds, end in zip(sorted(spans), (short, long), strict=True):
        assert abs(used(calendar, start, end, unit) - seconds * SECOND) <= timedelta(microseconds=1)


@given(moments, st.integers(1, 5000))
def test_urgent_hours_are_real_hours(start: datetime, quarters: int) -> None:
    berlin = WorkCalendar(ZoneInfo("Europe/Berlin"))
    assert due(berlin, start, Limit(quarters / 4, "UH")) == start + timedelta(minutes=15 * quarters)


def at(zone: str, *when: int) -> datetime:
    """In UTC: the arithmetic of other zones is that of their clocks on the wall."""
    return datetime(*when, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[misc, arg-type]


def test_days_over_a_change_of_the_clocks() -> None:
    """New York: put forward on 2026-03-08 at 02:00, put back on 2026-11-01 at 02:00."""
    ny = WorkCalendar(ZoneInfo("America/New_York"))
    saturday = at("America/New_York", 2026, 3, 7, 17, 20)
    assert due(ny, saturday, Limit(1, "ND")) == at("America/New_York", 2026, 3, 8, 17, 20) == saturday + timedelta(hours=23)
    assert due(ny, saturday, Limit(1, "UD")) == saturday + timedelta(hours=23)
    assert due(ny, saturday, Limit(24, "UH")) == at("America/New_York", 2026, 3, 8, 18, 20)
    assert due(ny, saturday, Limit(0.5, "ND")) == saturday + timedelta(hours=11.5)
    autumn = at("America/New_York", 2026, 10, 31, 17, 20)
    assert due(ny, autumn, Limit(1, "ND")) == autumn + timedelta(hours=25)
    assert used(ny, autumn, autumn + timedelta(hours=12.5), "ND") == timedelta(hours=12)
    never = at("America/New_York", 2026, 3, 7, 2, 30)
    assert due(ny, never, Limit(1, "ND")) == at("America/New_York", 2026, 3, 8, 3, 30)
    twice = at("America/New_York", 2026, 10, 31, 1, 30)
    assert due(ny, twice, Limit(1, "ND")) == twice + timedelta(hours=24), "the first 01:30"


def test_a_night_shift_over_a_change_of_the_clocks() -> None:
    """The clock on the wall decides: the hour that is left out is not worked, the one that comes twice is worked twice."""
    night = (Edition(date(2026, 1, 1), (Season((1, 1), (12, 31), ((0, 360),)),)),)
    days = {d: Day("workday", "班", "shift") for d in (date(2026, 3, 8), date(2026, 11, 1))}
    ny = WorkCalendar(ZoneInfo("America/New_York"), night, days)
    for day, hours in (((2026, 3, 8), 5), ((2026, 11, 1), 7), ((2026, 3, 9), 6)):
        start, end = at("America/New_York", *day, 0), at("America/New_York", *day, 12)
        assert used(ny, start, end, "WH") == timedelta(hours=hours)


def test_instants_of_one_zone_are_compared_as_instants() -> None:
    zone = ZoneInfo("America/New_York")
    before, after = datetime(2026, 11, 1, 1, 45, tzinfo=zone), datetime(2026, 11, 1, 1, 15, fold=1, tzinfo=zone)
    assert used(WorkCalendar(zone), before, after, "UH") == timedelta(minutes=30)
    assert used(WorkCalendar(zone), after, before, "ND") < timedelta(0)


def test_what_ends_with_the_day_is_due_then() -> None:
    calendar = WorkCalendar(ZoneInfo("Asia/Shanghai"))
    friday = at("Asia/Shanghai", 2026, 3, 6, 16)
    assert due(calendar, friday, Limit(2, "WH")) == at("Asia/Shanghai", 2026, 3, 6, 18)
    assert aligned(calendar, at("Asia/Shanghai", 2026, 3, 6, 18)) == at("Asia/Shanghai", 2026, 3, 9, 8)
    assert due(calendar, at("Asia/Shanghai", 2026, 3, 6, 18), Limit(1, "WH")) == at("Asia/Shanghai", 2026, 3, 9, 9)


def test_editions_and_seasons_follow_one_another() -> None:
    def day(*spans: tuple[int, int]) -> tuple[Season, ...]:
        return (Season((1, 1), (12, 31), spans),)

    summer = Season((5, 1), (9, 30), ((540, 780), (960, 1200)))
    winter = Season((10, 1), (4, 30), ((570, 810), (930, 1170)))
    editions = (Edition(date(2026, 7, 1), (summer, winter)), Edition(date(2026, 1, 1), day((600, 1080))))
    calendar = WorkCalendar(ZoneInfo("Asia/Urumqi"), editions)
    for when, first in (
        ((2025, 12, 31), 8), ((2026, 1, 1), 10), ((2026, 6, 30), 10), ((2026, 7, 1), 9), ((2026, 9, 30), 9),
        ((2026, 10, 1), 9.5), ((2027, 4, 30), 9.5), ((2027, 5, 3), 9),
    ):  # fmt: skip
        midnight = at("Asia/Urumqi", *when, 0)
        assert aligned(calendar, midnight) == midnight + timedelta(hours=first), when


def test_an_unannounced_year_is_refused_by_name_and_never_guessed() -> None:
    calendar = WorkCalendar(ZoneInfo("Asia/Shanghai"), years=frozenset({2026}), name="cn")
    eve = at("Asia/Shanghai", 2026, 12, 31, 16)
    assert due(calendar, eve, Limit(2, "WH")) == at("Asia/Shanghai", 2026, 12, 31, 18), "needs no 2027"
    for refused in (
        lambda: due(calendar, eve, Limit(3, "WH")),
        lambda: due(calendar, at("Asia/Shanghai", 2027, 3, 1), Limit(1, "WD")),
        lambda: used(calendar, eve, at("Asia/Shanghai", 2027, 1, 1), "WD"),
        lambda: aligned(calendar, at("Asia/Shanghai", 2026, 12, 31, 18)),
    ):
        with pytest.raises(Unannounced, match=r"2027.* PUT /api/case/v1/calendar/2027") as error:
            refused()
        assert error.value.year == 2027 and isinstance(error.value, Invalid)
    with pytest.raises(Unannounced, match="2025"):
        due(calendar, at("Asia/Shanghai", 2025, 12, 31, 17), Limit(9, "WH"))
    assert due(calendar, eve, Limit(9, "ND")) == eve + timedelta(days=9), "natural days need no calendar"
    with pytest.raises(Unannounced, match="2201"):
        due(WorkCalendar(ZoneInfo("UTC")), datetime(2200, 12, 31, 20, tzinfo=UTC), Limit(1, "WD"))


@pytest.mark.parametrize("text", ["2WD", "0.25UH", "3ND", "0.3333UH", "40WH", "1.5UD", "87840UH"])
def test_a_limit_is_written_as_it_is_read(text: str) -> None:
    assert str(Limit.parse(text)) == text
    assert Limit.parse(str(Limit.parse(text))) == Limit.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "2", "WD", "0WD", "-1WD", "2wd", "2 WD", "1e3WD", "infWD", "2XD", "99999UD", "9999WD", "0.00001UH", "0.0001UH",
        "٢WD", "2WD\n", "2WD ", "2.WD", ".5WD",
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as error:
        Limit.parse(text)
    assert error.value.field == "/limit"


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ("2WD", "2个工作日", "2 work days"), ("1WD", "1个工作日", "1 work day"), ("1.5WD", "1.5个工作日", "1.5 work days"),
        ("4WH", "4个工作时", "4 work hours"), ("24UH", "24个紧急工作时", "24 urgent hours"),
        ("1UD", "1个紧急工作日", "1 urgent day"), ("3ND", "3个自然日", "3 natural days"),
        ("0.25UH", "15分钟（紧急工作时）", "15 minutes (urgent)"),
        ("0.3333UH", "20分钟（紧急工作时）", "20 minutes (urgent)"), ("0.5WH", "30分钟（工作时）", "30 minutes (work time)"),
    ],
)  # fmt: skip
def test_a_limit_in_words(text: str, zh: str, en: str) -> None:
    assert Limit.parse(text).words() == {"zh": zh, "en": en}


@pytest.mark.parametrize(
    ("seasons", "field"),
    [
        ((Season((1, 1), (12, 31), ()),), "/seasons/0/periods"),
        ((Season((1, 1), (12, 31), ((480, 720), (700, 800))),), "/seasons/0/periods/1"),
        ((Season((1, 1), (12, 31), ((480, 480),)),), "/seasons/0/periods/0"),
        ((Season((1, 1), (12, 31), ((480, 1441),)),), "/seasons/0/periods/0"),
        ((Season((1, 1), (12, 30), ((480, 720),)),), "/seasons"),
        ((Season((1, 1), (12, 31), ((480, 720),)), Season((5, 1), (9, 1), ((480, 720),))), "/seasons"),
        ((), "/seasons"),
    ],
)
def test_impossible_periods_are_refused(seasons: tuple[Season, ...], field: str) -> None:
    with pytest.raises(Invalid) as error:
        Edition(date(2026, 1, 1), seasons)
    assert error.value.field == field


def test_wrong_calls_are_errors() -> None:
    calendar = WorkCalendar(ZoneInfo("UTC"))
    with pytest.raises(ValueError, match="offset"):
        due(calendar, datetime(2026, 3, 6), Limit(1, "UH"))  # noqa: DTZ001
    with pytest.raises(ValueError, match="later"):
        shift(calendar, datetime(2026, 3, 6, tzinfo=UTC), -SECOND, "WH")


def test_it_is_quick_enough_to_file_by() -> None:
    """Measured about 3 µs; the bound leaves room for a busy machine, and the best of many rounds is taken."""
    calendar = WorkCalendar(ZoneInfo("America/New_York"))
    start = datetime(2026, 3, 6, 15, tzinfo=UTC)
    for text in ("2WD", "4WH", "0.25UH", "3ND"):
        limit, best = Limit.parse(text), 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(100):
                due(calendar, start, limit)
            best = min(best, (time.perf_counter() - began) / 100)
        assert best < 30e-6, f"{text}: {best * 1e6:.1f} µs"
