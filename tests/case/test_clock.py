"""Clocks of stages: pauses, extensions, lights at their boundaries, explanations; and a city's own record of what was on time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.case import clock as clocks
from services.case.clock import Clock
from services.case.worktime import MICRO, Day, Edition, Limit, Season, Unannounced, Unit, WorkCalendar, due, used
from shared.errors import Conflict, Invalid

ZONE = ZoneInfo("Asia/Shanghai")
BOSTON = Path(__file__).resolve().parents[3] / "shared" / "data" / "cases" / "boston_sample_2015_2024.parquet"
MINUTE = timedelta(minutes=1)
FREE = {date(2026, 10, d): Day("holiday", "国庆节", "National Day", "cn") for d in range(1, 8)}
WORKED = {d: Day("workday", "国庆节", "National Day", "cn") for d in (date(2026, 9, 20), date(2026, 10, 10))}
CALENDAR = WorkCalendar(ZONE, days=FREE | WORKED, years=frozenset({2026}), name="cn")
START = datetime(2026, 9, 14, tzinfo=UTC)

units = st.sampled_from(["UH", "UD", "WH", "WD", "ND"])
limits = st.builds(lambda n, u: Limit(n / 4, u), st.integers(1, 24), units)
instants = st.integers(0, 14 * 86400 * 4).map(lambda n: START + timedelta(seconds=n / 4))
pauses = st.lists(st.integers(0, 5 * 86400), min_size=2, max_size=6)


def at(month: int, day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, second, tzinfo=ZONE).astimezone(UTC)


def walk(clock: Clock, gaps: list[int]) -> Clock:
    """Hold and resume in turn after so many seconds each; it ends running."""
    moment = clock.began
    for n, gap in enumerate(gaps[: len(gaps) // 2 * 2]):
        moment += timedelta(seconds=gap)
        clock = clocks.resume(CALENDAR, clock, moment) if n % 2 else clocks.hold(clock, moment)
    return clock


@given(limits, instants, st.sampled_from([0.6, 0.8, 1.0]))
def test_a_clock_warns_after_its_share_and_ends_with_its_limit(limit: Limit, start: datetime, yellow: float) -> None:
    clock = clocks.start(CALENDAR, limit, start, yellow)
    assert clock.due == due(CALENDAR, start, limit)
    assert used(CALENDAR, start, clock.due, limit.unit) == limit.span
    assert used(CALENDAR, start, clock.warn, limit.unit) == limit.span * yellow
    assert start <= clock.warn <= clock.due


@given(limits, instants)
def test_lights_change_just_beyond_their_boundaries(limit: Limit, start: datetime) -> None:
    clock = clocks.start(CALENDAR, limit, start)
    lights = [clocks.light(clock, t) for t in (start, clock.warn, clock.warn + MICRO, clock.due, clock.due + MICRO)]
    assert lights == ["green", "green", "yellow", "yellow", "red"]
    for end, kept in ((clock.due, True), (clock.due + MICRO, False)):
        assert clocks.on_time(clocks.end(clock, end)) is kept
    assert clocks.on_time(clock) is None and clocks.on_time(None) is True and clocks.light(None, start) is None


@settings(max_examples=300)
@given(limits, instants, pauses, st.integers(0, 30 * 86400))
def test_a_pause_takes_nothing_and_gives_nothing(limit: Limit, start: datetime, gaps: list[int], more: int) -> None:
    """While it is held the light stands still and so does what is left; when it goes on both are what they were."""
    clock = walk(clocks.start(CALENDAR, limit, start), gaps)
    last = clock.moves[-1].at + timedelta(seconds=more % 86400)
    held = clocks.hold(clock, last)
    shown, rest = clocks.light(clock, last), clocks.left(CALENDAR, clock, last)
    later = last + timedelta(seconds=more)
    assert clocks.light(held, later) == shown
    assert clocks.left(CALENDAR, held, later) == rest
    again = clocks.resume(CALENDAR, held, later)
    assert clocks.light(again, later) == shown
    assert abs(clocks.left(CALENDAR, again, later) - rest) <= MICRO
    assert again.due >= clock.due and again.warn >= clock.warn and again.warn <= again.due


@given(limits, instants, pauses)
def test_the_deadline_is_the_limit_and_all_pauses(limit: Limit, start: datetime, gaps: list[int]) -> None:
    clock, paused = walk(clocks.start(CALENDAR, limit, start), gaps), timedelta(0)
    for move in clock.moves:
        assert move.since is not None
        paused += used(CALENDAR, move.since, move.at, limit.unit)
    if clocks.light(clock, clock.moves[-1].at) != "red":
        assert abs(used(CALENDAR, start, clock.due, limit.unit) - limit.span - paused) <= MICRO
    assert [m.before for m in clock.moves[1:]] == [m.after for m in clock.moves[:-1]]


@given(limits, limits, instants, st.integers(0, 86400))
def test_an_extension_is_added_and_the_clock_runs_on(limit: Limit, more: Limit, start: datetime, gap: int) -> None:
    clock = clocks.start(CALENDAR, limit, start)
    moment = start + timedelta(seconds=gap)
    longer = clocks.extend(CALENDAR, clock, more, moment)
    assert longer.due == due(CALENDAR, clock.due, more)
    assert longer.held is None and longer.began == start and longer.limit == limit
    assert clock.warn < longer.warn <= longer.due
    if more.unit == limit.unit:
        whole = limit.span + more.span
        assert used(CALENDAR, start, longer.due, limit.unit) == whole
        assert used(CALENDAR, start, longer.warn, limit.unit) == whole * 0.8
    if moment <= clock.due:
        twice = clocks.resume(CALENDAR, clocks.hold(longer, moment), moment + timedelta(hours=30))
        other = clocks.resume(CALENDAR, clocks.hold(clock, moment), moment + timedelta(hours=30))
        if more.unit == limit.unit and moment < clock.due:
            assert twice.due == clocks.extend(CALENDAR, other, more, moment + timedelta(hours=30)).due, "in whatever order"


@given(limits, instants, pauses, limits, st.booleans(), st.booleans())
def test_a_clock_is_kept_as_it_is(limit: Limit, start: datetime, gaps: list[int], more: Limit, held: bool, ended: bool) -> None:
    clock = clocks.extend(CALENDAR, walk(clocks.start(CALENDAR, limit, start, 0.7), gaps), more, start + timedelta(days=40))
    clock = clocks.hold(clock, start + timedelta(days=41)) if held else clock
    clock = clocks.end(clock, start + timedelta(days=42)) if ended else clock
    stored = orjson.dumps(clocks.as_json(clock))
    assert clocks.of_json(orjson.loads(stored)) == clock
    assert orjson.dumps(clocks.as_json(clocks.of_json(orjson.loads(stored)))) == stored


def test_an_hour_by_hour_story() -> None:
    """2 work days from Monday 09:00; returned to the dispatcher on Tuesday 09:00, back on Wednesday 15:00."""
    clock = clocks.start(CALENDAR, Limit.parse("2WD"), at(9, 14, 9))
    assert (clock.due, clock.warn) == (at(9, 16, 9), at(9, 15, 15, 48))
    clock = clocks.hold(clock, at(9, 15, 9))
    assert clocks.light(clock, at(9, 30, 9)) == "green" and clocks.left(CALENDAR, clock, at(9, 30, 9)) == timedelta(hours=8)
    clock = clocks.resume(CALENDAR, clock, at(9, 16, 15))
    assert (clock.due, clock.warn) == (at(9, 17, 15), at(9, 17, 9, 48)), "12 work hours later"
    clock = clocks.extend(CALENDAR, clock, Limit.parse("2WD"), at(9, 17, 9))
    assert (clock.due, clock.warn) == (at(9, 20, 15), at(9, 18, 16, 36)), "Sunday is worked"
    done = clocks.end(clock, at(9, 20, 15))
    assert clocks.on_time(done) is True and clocks.light(done, at(12, 1, 8)) == "yellow"
    back = clocks.reopen(CALENDAR, done, at(9, 21, 9))
    assert back.due == at(9, 21, 9), "nothing was left of it"
    other = clocks.restart(CALENDAR, clock, at(9, 18, 9))
    assert (other.began, other.due, other.held, other.ended) == (at(9, 18, 9), at(9, 21, 9), None, None)
    assert other.moves[-1].code == "restarted" and len(other.moves) == 3
    assert other.story == () and clocks.extend(CALENDAR, other, Limit.parse("1WD"), at(9, 18, 10)).story[0].code == "extended"
    assert clocks.restart(CALENDAR, clock, at(9, 18, 9), Limit.parse("4WH")).due == at(9, 18, 15)


def test_what_is_late_stays_late_over_a_pause_at_night() -> None:
    """Due on Friday 18:00, held on Saturday: no work time was over it, and yet the deadline had passed."""
    clock = clocks.start(CALENDAR, Limit.parse("2WH"), at(9, 11, 16))
    assert clock.due == at(9, 11, 18)
    again = clocks.resume(CALENDAR, clocks.hold(clock, at(9, 12, 10)), at(9, 14, 8))
    assert clocks.light(again, at(9, 14, 8)) == "red"
    # And what was just on time is not late because the night passed.
    again = clocks.resume(CALENDAR, clocks.hold(clock, at(9, 11, 18)), at(9, 14, 8))
    assert clocks.light(again, at(9, 14, 8)) == "yellow" and clocks.light(again, at(9, 14, 8) + MICRO) == "red"


def test_a_deadline_from_outside() -> None:
    clock = clocks.until(at(9, 18, 18), at(9, 16, 8), 0.5)
    assert (clock.due, clock.warn, clock.unit) == (at(9, 18, 18), at(9, 17, 13), "UH")
    assert clocks.resume(CALENDAR, clocks.hold(clock, at(9, 16, 9)), at(9, 16, 21)).due == at(9, 19, 6)
    assert clocks.restart(CALENDAR, clock, at(9, 17, 8)).due == clock.due
    late = clocks.until(at(9, 18, 18), at(9, 19, 8))
    assert late.warn == late.due and clocks.light(late, at(9, 19, 8)) == "red"
    assert clocks.of_json(clocks.as_json(clock)) == clock
    said = clocks.explain(CALENDAR, clock, at(9, 16, 8))
    assert said["en"] == "The deadline was given from outside: Friday 2026-09-18 18:00."


def test_an_ended_clock_that_stood_still() -> None:
    clock = clocks.hold(clocks.start(CALENDAR, Limit.parse("1UH"), at(9, 14, 9)), at(9, 14, 9, 30))
    done = clocks.end(clock, at(9, 20, 9))
    assert clocks.on_time(done) is True and clocks.light(done, at(12, 1, 9)) == "green"


def test_what_cannot_be_is_refused() -> None:
    running = clocks.start(CALENDAR, Limit.parse("2WD"), at(9, 14, 9))
    held, ended = clocks.hold(running, at(9, 14, 10)), clocks.end(running, at(9, 14, 10))
    later = at(9, 14, 11)
    for refused in (
        lambda: clocks.hold(held, later), lambda: clocks.hold(ended, later), lambda: clocks.resume(CALENDAR, running, later),
        lambda: clocks.resume(CALENDAR, ended, later), lambda: clocks.resume(CALENDAR, clocks.end(held, later), later),
        lambda: clocks.end(ended, later), lambda: clocks.extend(CALENDAR, ended, Limit.parse("1WD"), later),
        lambda: clocks.reopen(CALENDAR, running, later),
    ):  # fmt: skip
        with pytest.raises(Conflict):
            refused()
    before = at(9, 14, 8)
    for impossible in (
        lambda: clocks.hold(running, before), lambda: clocks.end(running, before), lambda: clocks.resume(CALENDAR, held, before),
        lambda: clocks.end(held, at(9, 14, 9, 30)), lambda: clocks.restart(CALENDAR, running, before),
        lambda: clocks.extend(CALENDAR, running, Limit.parse("1WD"), before),
    ):  # fmt: skip
        with pytest.raises(Invalid) as error:
            impossible()
        assert error.value.field == "/time"
    for share in (0.0, 1.5, -0.2):
        with pytest.raises(Invalid):
            clocks.start(CALENDAR, Limit.parse("2WD"), later, share)
    with pytest.raises(Unannounced, match="2027"):
        clocks.start(CALENDAR, Limit.parse("1WD"), at(12, 31, 16))


def test_instants_of_one_zone_are_told_apart() -> None:
    """New York puts its clocks back at 02:00 on 2026-11-01: 01:15 comes again half an hour after 01:45."""
    zone = ZoneInfo("America/New_York")
    clock = clocks.start(WorkCalendar(zone), Limit.parse("0.5UH"), datetime(2026, 11, 1, 1, 45, tzinfo=zone))
    second = datetime(2026, 11, 1, 1, 15, fold=1, tzinfo=zone)
    assert clock.due == second.astimezone(UTC) and clocks.light(clock, second) == "yellow"
    assert clocks.on_time(clocks.end(clock, second)) is True


HELD = clocks.hold(clocks.start(CALENDAR, Limit.parse("2WD"), at(9, 11, 17, 20)), at(9, 14, 9))
PAUSED = clocks.resume(CALENDAR, HELD, at(9, 15, 9))


@pytest.mark.parametrize(
    ("clock", "moment", "en"),
    [
        (PAUSED, at(9, 16, 8),
         "2 work days from Friday 2026-09-11 17:20 → Tuesday 2026-09-15 17:20, because Saturday and Sunday are no work days."
         " Paused from Monday 2026-09-14 09:00 to Tuesday 2026-09-15 09:00: deadline moved to Wednesday 2026-09-16 17:20."
         " 7 hours 20 minutes of work time left."),
        (clocks.extend(CALENDAR, PAUSED, Limit.parse("2WD"), at(9, 16, 9)), at(9, 21, 9),
         "2 work days from Friday 2026-09-11 17:20 → Tuesday 2026-09-15 17:20, because Saturday and Sunday are no work days."
         " Paused from Monday 2026-09-14 09:00 to Tuesday 2026-09-15 09:00: deadline moved to Wednesday 2026-09-16 17:20."
         " Postponed on Wednesday 2026-09-16 09:00 by 2 work days: deadline moved to Friday 2026-09-18 17:20."
         " Late by 1 work day 1 hour 40 minutes of work time."),
        (clocks.hold(PAUSED, at(9, 15, 12)), at(9, 30, 9),
         "2 work days from Friday 2026-09-11 17:20 → Tuesday 2026-09-15 17:20, because Saturday and Sunday are no work days."
         " Paused from Monday 2026-09-14 09:00 to Tuesday 2026-09-15 09:00: deadline moved to Wednesday 2026-09-16 17:20."
         " Paused since Tuesday 2026-09-15 12:00: the clock stands still."),
        (clocks.end(PAUSED, at(9, 16, 17, 20)), at(9, 30, 9),
         "2 work days from Friday 2026-09-11 17:20 → Tuesday 2026-09-15 17:20, because Saturday and Sunday are no work days."
         " Paused from Monday 2026-09-14 09:00 to Tuesday 2026-09-15 09:00: deadline moved to Wednesday 2026-09-16 17:20."
         " Ended on Wednesday 2026-09-16 17:20, on time."),
        (clocks.restart(CALENDAR, PAUSED, at(9, 15, 10), Limit.parse("1UD")), at(9, 15, 13),
         "Began anew on Tuesday 2026-09-15 10:00. 1 urgent day from Tuesday 2026-09-15 10:00 → Wednesday 2026-09-16 10:00,"
         " because urgent days run on at night, at weekends and on holidays. 21 hours left."),
        (clocks.reopen(CALENDAR, clocks.end(PAUSED, at(9, 16, 9)), at(9, 17, 9)), at(9, 17, 9),
         "2 work days from Friday 2026-09-11 17:20 → Tuesday 2026-09-15 17:20, because Saturday and Sunday are no work days."
         " Paused from Monday 2026-09-14 09:00 to Tuesday 2026-09-15 09:00: deadline moved to Wednesday 2026-09-16 17:20."
         " Reopened on Thursday 2026-09-17 09:00, and the time since Wednesday 2026-09-16 09:00 does not count: deadline moved"
         " to Thursday 2026-09-17 17:20. 6 hours 20 minutes of work time left."),
    ],
    ids=["paused", "extended and late", "held", "ended", "restarted", "reopened"],
)  # fmt: skip
def test_moves_in_words(clock: Clock, moment: datetime, en: str) -> None:
    assert clocks.explain(CALENDAR, clock, moment)["en"] == en


def test_moves_in_chinese() -> None:
    clock = clocks.extend(CALENDAR, PAUSED, Limit.parse("2WD"), at(9, 16, 9))
    assert clocks.explain(CALENDAR, clock, at(9, 21, 9))["zh"] == (
        "2个工作日，自2026-09-11（星期五）17:20起 → 2026-09-15（星期二）17:20，因为星期六、星期日不是工作日。"
        "2026-09-14（星期一）09:00至2026-09-15（星期二）09:00暂停计时，截止时间顺延至2026-09-16（星期三）17:20。"
        "2026-09-16（星期三）09:00延期2个工作日，截止时间改为2026-09-18（星期五）17:20。"
        "已超时1个工作日1小时40分钟（工作时间）。"
    )


def test_a_calendar_that_changed_since_is_said() -> None:
    clock = clocks.start(CALENDAR, Limit.parse("2WD"), at(9, 11, 17, 20))
    other = WorkCalendar(ZONE, days=CALENDAR.days, years=frozenset({2027}), name="cn")
    assert "(the calendar of 2026 is not loaded)" in clocks.explain(other, clock, at(9, 14, 9))["en"]
    free = {date(2026, 9, 14): Day("holiday", "测试日", "Day of Tests")}
    said = clocks.explain(WorkCalendar(ZONE, days=free), clock, at(9, 11, 17, 20))
    assert said["en"].endswith("(by the calendar of that time; by today's it would be Wednesday 2026-09-16 17:20).")
    assert "Monday 2026-09-14 is a holiday (Day of Tests)" in said["en"]


def test_periods_are_said_where_they_explain_the_time_of_day() -> None:
    short = WorkCalendar(ZONE, (Edition(date(2026, 1, 1), (
        Season((5, 1), (9, 30), ((540, 780), (960, 1140)),), Season((10, 1), (4, 30), ((540, 780), (900, 1080))),
    )),))  # fmt: skip
    clock = clocks.start(short, Limit.parse("2WD"), at(9, 29, 16))
    assert clocks.explain(short, clock, clock.began)["en"] == (
        "2 work days from Tuesday 2026-09-29 16:00 → Thursday 2026-10-01 17:00, because a work day counts as 8 work hours and"
        " working time is 09:00–13:00 and 16:00–19:00, from 2026-10-01 on 09:00–13:00 and 15:00–18:00."
    )


def test_limits_of_years_are_not_told_day_by_day() -> None:
    days = {date(year, month, 3): Day("holiday", "假", "Day Off") for year in range(2026, 2030) for month in range(1, 13)}
    calendar = WorkCalendar(ZONE, days=days)
    clock = clocks.start(calendar, Limit.parse("500WD"), at(1, 5, 8))
    said = clocks.explain(calendar, clock, clock.began)
    assert len(said["en"]) < 1000 and "more days" in said["en"]


@pytest.mark.skipif(not BOSTON.exists(), reason="the city's sample of cases is not here")
def test_a_citys_own_flag_is_reproduced_on_every_row_that_has_one() -> None:
    """Due and closed are wall-clock times of that city; a row without a deadline has nothing to be late for."""
    zone, seen, someday = ZoneInfo("America/New_York"), Counter[str](), datetime(2050, 1, 1, tzinfo=UTC)
    for row in parquet.read_table(BOSTON).to_pylist():
        if row["on_time_raw"] is None:
            continue
        kept, names = row["on_time_raw"] == "ONTIME", ("created_at", "closed_at", "due_at")
        opened, closed, deadline = (row[n].replace(tzinfo=zone) if row[n] else None for n in names)
        clock = clocks.end(clocks.until(deadline, opened), closed) if deadline else None
        assert clocks.on_time(clock) is kept, row["case_id"]
        assert clock is None or (clocks.light(clock, someday) != "red") is kept
        seen[row["on_time_raw"] if clock else "no deadline"] += 1
    assert seen == {"ONTIME": 3809, "OVERDUE": 474, "no deadline": 711}


UNITS: list[Unit] = ["UH", "UD", "WH", "WD", "ND"]


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_explained_in_both_languages(unit: Unit) -> None:
    clock = clocks.start(CALENDAR, Limit(3, unit), at(9, 30, 17))
    said = clocks.explain(CALENDAR, clock, at(9, 30, 17, 30))
    assert all(len(text) > 20 for text in said.values()) and said["en"] != said["zh"]
