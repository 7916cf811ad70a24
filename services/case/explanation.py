"""Says in Chinese and English why a deadline is when it is; pure. Every part is a pair (Chinese, English)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from itertools import groupby

from services.case.limits import WORDS, WORKING, Limit, Unit
from services.case.worktime import DAY, Unannounced, WorkCalendar, aligned, due, used

Said = tuple[str, str]
WEEKDAYS: tuple[Said, ...] = (
    ("星期一", "Monday"), ("星期二", "Tuesday"), ("星期三", "Wednesday"), ("星期四", "Thursday"), ("星期五", "Friday"),
    ("星期六", "Saturday"), ("星期日", "Sunday"),
)  # fmt: skip
MOST = 8
"""Groups of days that are named one by one; a limit of years is not explained day by day."""


def together(parts: list[Said]) -> dict[str, str]:
    """The parts as one text in each language."""
    zh, en = ([p[i] for p in parts] for i in (0, 1))
    return {"zh": "。".join(zh) + "。", "en": ". ".join(e[:1].upper() + e[1:] for e in en) + "."}


def beginning(calendar: WorkCalendar, limit: Limit | None, began: datetime, deadline: datetime) -> Said:
    """The limit, from when to when, and why it is no earlier."""
    (zh_from, en_from), (zh_to, en_to) = _when(calendar, began), _when(calendar, deadline)
    if limit is None:
        return f"截止时间由外部给定：{zh_to}", f"the deadline was given from outside: {en_to}"
    words = limit.words()
    zh, en = f"{words['zh']}，自{zh_from}起 → {zh_to}", f"{words['en']} from {en_from} → {en_to}"
    try:
        reasons = _reasons(calendar, limit, began, deadline)
        by_now = due(calendar, began, limit)
    except Unannounced as error:
        return f"{zh}（{error.year}年的工作日历未载入）", f"{en} (the calendar of {error.year} is not loaded)"
    if reasons:
        zh += "，因为" + "，".join(r[0] for r in reasons)
        en += ", because " + "; ".join(r[1] for r in reasons)
    if by_now != deadline:
        zh_now, en_now = _when(calendar, by_now)
        zh += f"（按当时的日历；按现行日历为{zh_now}）"
        en += f" (by the calendar of that time; by today's it would be {en_now})"
    return zh, en


def move(calendar: WorkCalendar, code: str, at: datetime, since: datetime | None, limit: Limit | None, after: datetime) -> Said:
    """A pause, an extension or a reopening, and the deadline after it."""
    (zh_at, en_at), (zh_to, en_to) = _when(calendar, at), _when(calendar, after)
    zh_since, en_since = _when(calendar, since or at)
    words = limit.words() if limit else {"zh": "", "en": ""}
    said: dict[str, Said] = {
        "paused": (f"{zh_since}至{zh_at}暂停计时，截止时间顺延至{zh_to}",
                   f"paused from {en_since} to {en_at}: deadline moved to {en_to}"),
        "extended": (f"{zh_at}延期{words['zh']}，截止时间改为{zh_to}",
                     f"postponed on {en_at} by {words['en']}: deadline moved to {en_to}"),
        "reopened": (f"{zh_at}重新计时，{zh_since}以来的时间不计，截止时间顺延至{zh_to}",
                     f"reopened on {en_at}, and the time since {en_since} does not count: deadline moved to {en_to}"),
    }  # fmt: skip
    return said[code]


def anew(calendar: WorkCalendar, at: datetime) -> Said:
    zh, en = _when(calendar, at)
    return f"{zh}重新起算", f"began anew on {en}"


def held(calendar: WorkCalendar, since: datetime) -> Said:
    zh, en = _when(calendar, since)
    return f"自{zh}起暂停计时", f"paused since {en}: the clock stands still"


def ended(calendar: WorkCalendar, at: datetime, kept: bool) -> Said:
    zh, en = _when(calendar, at)
    return f"{zh}结束，{'按时' if kept else '超时'}", f"ended on {en}, {'on time' if kept else 'late'}"


def remaining(calendar: WorkCalendar, at: datetime, deadline: datetime, unit: Unit) -> Said:
    """What is left, or by how much the deadline has passed."""
    try:
        rest = used(calendar, at, deadline, unit)
    except Unannounced as error:
        return f"{error.year}年的工作日历未载入", f"the calendar of {error.year} is not loaded"
    zh, en = _span(abs(rest), unit)
    return (f"剩余{zh}", f"{en} left") if at <= deadline else (f"已超时{zh}", f"late by {en}")


def _span(span: timedelta, unit: Unit) -> Said:
    """Days, hours and minutes of the unit's own kind of time; a work day has 8 hours."""
    day = {"WD": timedelta(hours=8), "UD": DAY, "ND": DAY}.get(unit)
    days, rest = divmod(span, day) if day else (0, span)
    minutes = rest // timedelta(minutes=1)
    amounts = [(days, *WORDS[unit]), (minutes // 60, "小时", "hour"), (minutes % 60, "分钟", "minute")]
    found = [a for a in amounts if a[0]]
    work = ("（工作时间）", " of work time") if unit in WORKING else ("", "")
    if not found:
        return "不足1分钟" + work[0], "less than a minute" + work[1]
    en = " ".join(f"{n} {name}{'s' * (n != 1)}" for n, _, name in found)
    return "".join(f"{n}{'个' * (name not in ('小时', '分钟'))}{name}" for n, name, _ in found) + work[0], en + work[1]


def _when(calendar: WorkCalendar, at: datetime) -> Said:
    local = at.astimezone(calendar.zone)
    clock = local.strftime("%H:%M:%S" if local.second else "%H:%M")
    zh, en = _day(local.date())
    return f"{zh}{clock}", f"{en} {clock}"


def _day(day: date) -> Said:
    zh, en = WEEKDAYS[day.weekday()]
    return f"{day}（{zh}）", f"{en} {day}"


def _reasons(calendar: WorkCalendar, limit: Limit, began: datetime, deadline: datetime) -> list[Said]:
    if limit.unit not in WORKING:
        return list(_running_on(calendar, limit.unit, began, deadline))
    if deadline - began == limit.span:
        return []
    found: list[Said] = []
    first = aligned(calendar, began)
    if first != began:
        zh, en = _when(calendar, first)
        found.append((f"起始时刻不在工作时间内，从{zh}起算", f"it began outside working time and counts from {en}"))
    start, last = (at.astimezone(calendar.zone).date() for at in (began, deadline))
    days = [start + timedelta(days=n) for n in range((last - start).days + 1)]
    return [*found, *_off(calendar, days), *_swapped(calendar, days), *_hours(calendar, limit.unit, days)]


def _running_on(calendar: WorkCalendar, unit: Unit, began: datetime, deadline: datetime) -> Iterator[Said]:
    zh, en = WORDS[unit]
    yield f"{zh}在夜间、周末和节假日连续计算", f"{en}s run on at night, at weekends and on holidays"
    if began.astimezone(calendar.zone).utcoffset() != deadline.astimezone(calendar.zone).utcoffset():
        yield "其间时钟调整（夏令时）", "the clocks change in between"


def _off(calendar: WorkCalendar, days: list[date]) -> Iterator[Said]:
    """The days that are no work days: weekends together, holidays by name with their dates."""
    weekend = [d for d in days if d not in calendar.days and d.weekday() >= 5]
    if len(weekend) > 2:
        yield f"其间{len(weekend)}个周末休息日不是工作日", f"{len(weekend)} days of weekends are no work days"
    elif weekend:
        one = weekend[-1] - weekend[0] <= DAY
        names = [WEEKDAYS[d.weekday()] if one else _day(d) for d in weekend]
        verb = "are no work days" if len(names) > 1 else "is no work day"
        yield "、".join(n[0] for n in names) + "不是工作日", " and ".join(n[1] for n in names) + f" {verb}"
    yield from _named(
        calendar,
        days,
        "holiday",
        lambda when, zh: f"{when}为{zh}假期",
        lambda when, en, many: f"{when} {'are holidays' if many else 'is a holiday'} ({en})",
    )


def _swapped(calendar: WorkCalendar, days: list[date]) -> Iterator[Said]:
    """Days of a weekend that are worked and therefore counted."""
    yield from _named(
        calendar,
        [d for d in days if d.weekday() >= 5],
        "workday",
        lambda when, zh: f"{when}调休上班（{zh}）",
        lambda when, en, many: f"{when} {'are work days' if many else 'is a work day'} ({en})",
    )


def _named(
    calendar: WorkCalendar, days: list[date], kind: str,
    say_zh: Callable[[str, str], str], say_en: Callable[[str, str, bool], str],
) -> Iterator[Said]:  # fmt: skip
    """Consecutive days of this kind, said as one with all their names."""
    special = [d for d in days if d in calendar.days and calendar.days[d].kind == kind]
    runs = [[d for _, d in run] for _, run in groupby(enumerate(special), lambda x: x[1].toordinal() - x[0])]
    for found in runs[:MOST]:
        first, last, many = found[0], found[-1], len(found) > 1
        dates = (f"{first}至{last}（{len(found)}天）", f"{first} to {last}")
        zh_when, en_when = dates if many else _day(first)
        zh = "、".join(dict.fromkeys(calendar.days[d].zh for d in found))
        en = ", ".join(dict.fromkeys(calendar.days[d].en for d in found))
        yield say_zh(zh_when, zh), say_en(en_when, en, many)
    if more := sum(map(len, runs[MOST:])):
        yield f"另有{more}天", f"{more} more days"


def _hours(calendar: WorkCalendar, unit: Unit, days: list[date]) -> Iterator[Said]:
    """The working periods, where the days alone do not explain the time of day."""
    worked = [(d, calendar.periods(d)) for d in days if calendar.works(d)]
    runs = [(periods, next(run)[0]) for periods, run in groupby(worked, lambda w: w[1])]
    if unit == "WD" and len(runs) == 1 and sum(b - a for a, b in runs[0][0]) == 480:
        return
    zh, en = "工作时间为", "working time is "
    if unit == "WD":
        zh, en = "1个工作日按8个工作时计，" + zh, "a work day counts as 8 work hours and " + en
    for i, (periods, since) in enumerate(runs[:MOST]):
        spans = [f"{a // 60:02}:{a % 60:02}–{b // 60:02}:{b % 60:02}" for a, b in periods]
        zh += (f"，{since}起为" if i else "") + "、".join(spans)
        en += (f", from {since} on " if i else "") + " and ".join(spans)
    if runs:
        yield zh, en
