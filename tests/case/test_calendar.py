"""The node's calendar: announced years, the node's own days and periods, and deadlines over real holidays worked out by hand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.case import calendar as days
from services.case import clock as clocks
from services.case.calendar import calendar_of, compare, load_year, set_periods
from services.case.calendar_api import CalendarYear, Deadline, PeriodsNow, YearLoaded
from services.case.worktime import DEFAULT, Day, Edition, Limit, Season, Unannounced, WorkCalendar, due
from shared.database import Tx, open_engine, reading
from shared.errors import Invalid
from shared.kept import Kept
from tests.served import Served, migrate, node, refused

ZONE = ZoneInfo("Asia/Shanghai")
SPECIAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "calendar" / "cn_special_days_2021_2026.csv"
API = "/api/case/v1"
SPRING = {date(2027, 2, d): Day("holiday", "春节", "Spring Festival", "notice") for d in range(5, 13)}
SWAPPED = {date(2027, 2, 14): Day("workday", "春节", "Spring Festival", "notice")}


def loaded(engine: Engine, name: str = "cn") -> tuple[WorkCalendar, Kept[WorkCalendar]]:
    kept = calendar_of(ZONE, name)
    with reading(engine) as connection:
        return kept.get(connection), kept


@pytest.fixture(scope="module")
def cn(tmp_path_factory: pytest.TempPathFactory) -> WorkCalendar:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('calendar')}/node.db")
    migrate(engine)
    return loaded(engine)[0]


REAL = [
    ("2WD", "2026-03-06 17:20", "2026-03-10 17:20",
     "2 work days from Friday 2026-03-06 17:20 → Tuesday 2026-03-10 17:20, because Saturday and Sunday are no work days."),
    ("2WD", "2025-01-24 17:20", "2025-01-27 17:20",
     "2 work days from Friday 2025-01-24 17:20 → Monday 2025-01-27 17:20, because Saturday is no work day; Sunday 2025-01-26 is a"
     " work day (Spring Festival)."),
    ("3WD", "2025-01-27 10:00", "2025-02-07 10:00",
     "3 work days from Monday 2025-01-27 10:00 → Friday 2025-02-07 10:00, because 2025-01-28 to 2025-02-04 are holidays"
     " (Spring Festival)."),
    ("5WD", "2025-02-05 09:00", "2025-02-11 09:00",
     "5 work days from Wednesday 2025-02-05 09:00 → Tuesday 2025-02-11 09:00, because Sunday is no work day; Saturday 2025-02-08"
     " is a work day (Spring Festival)."),
    ("4WH", "2025-09-30 16:00", "2025-10-09 10:00",
     "4 work hours from Tuesday 2025-09-30 16:00 → Thursday 2025-10-09 10:00, because 2025-10-01 to 2025-10-08 are holidays"
     " (National Day, Mid-autumn Festival); working time is 08:00–12:00 and 14:00–18:00."),
    ("2WD", "2025-09-27 10:00", "2025-09-29 18:00",
     "2 work days from Saturday 2025-09-27 10:00 → Monday 2025-09-29 18:00, because it began outside working time and counts from"
     " Sunday 2025-09-28 08:00; Saturday is no work day; Sunday 2025-09-28 is a work day (National Day)."),
    ("3WD", "2025-10-09 08:00", "2025-10-11 18:00",
     "3 work days from Thursday 2025-10-09 08:00 → Saturday 2025-10-11 18:00, because Saturday 2025-10-11 is a work day"
     " (National Day)."),
    ("1WD", "2026-02-13 18:30", "2026-02-14 18:00",
     "1 work day from Friday 2026-02-13 18:30 → Saturday 2026-02-14 18:00, because it began outside working time and counts from"
     " Saturday 2026-02-14 08:00; Saturday 2026-02-14 is a work day (Spring Festival)."),
    ("2WD", "2026-02-14 15:00", "2026-02-25 15:00",
     "2 work days from Saturday 2026-02-14 15:00 → Wednesday 2026-02-25 15:00, because 2026-02-15 to 2026-02-23 are holidays"
     " (Spring Festival); Saturday 2026-02-14 is a work day (Spring Festival)."),
    ("4WH", "2026-09-30 15:00", "2026-10-08 09:00",
     "4 work hours from Wednesday 2026-09-30 15:00 → Thursday 2026-10-08 09:00, because 2026-10-01 to 2026-10-07 are holidays"
     " (National Day); working time is 08:00–12:00 and 14:00–18:00."),
    ("2WD", "2026-10-08 14:00", "2026-10-10 12:00",
     "2 work days from Thursday 2026-10-08 14:00 → Saturday 2026-10-10 12:00, because Saturday 2026-10-10 is a work day"
     " (National Day)."),
    ("1WD", "2025-12-31 16:00", "2026-01-04 16:00",
     "1 work day from Wednesday 2025-12-31 16:00 → Sunday 2026-01-04 16:00, because 2026-01-01 to 2026-01-03 are holidays"
     " (New Year's Day); Sunday 2026-01-04 is a work day (New Year's Day)."),
    ("3ND", "2025-09-30 17:00", "2025-10-03 17:00",
     "3 natural days from Tuesday 2025-09-30 17:00 → Friday 2025-10-03 17:00, because natural days run on at night, at weekends"
     " and on holidays."),
    ("24UH", "2025-12-31 20:00", "2026-01-01 20:00",
     "24 urgent hours from Wednesday 2025-12-31 20:00 → Thursday 2026-01-01 20:00, because urgent hours run on at night, at"
     " weekends and on holidays."),
    ("2WH", "2026-03-06 09:00", "2026-03-06 11:00", "2 work hours from Friday 2026-03-06 09:00 → Friday 2026-03-06 11:00."),
]  # fmt: skip
"""Worked out by hand from the State Council's notices: limit, start, deadline, why."""


@pytest.mark.parametrize(("limit", "start", "end", "why"), REAL, ids=[f"{r[0]} {r[1]}" for r in REAL])
def test_real_deadlines_and_why(cn: WorkCalendar, limit: str, start: str, end: str, why: str) -> None:
    began, deadline = (datetime.fromisoformat(t).replace(tzinfo=ZONE) for t in (start, end))
    clock = clocks.start(cn, Limit.parse(limit), began)
    assert clock.due == deadline
    assert clocks.explain(cn, clock, began)["en"] == why


def test_why_in_chinese(cn: WorkCalendar) -> None:
    began = datetime(2026, 2, 13, 19, tzinfo=ZONE)
    assert clocks.explain(cn, clocks.start(cn, Limit.parse("6WD"), began), began)["zh"] == (
        "6个工作日，自2026-02-13（星期五）19:00起 → 2026-02-28（星期六）18:00，因为起始时刻不在工作时间内，"
        "从2026-02-14（星期六）08:00起算，2026-02-15至2026-02-23（9天）为春节假期，"
        "2026-02-14（星期六）调休上班（春节），2026-02-28（星期六）调休上班（春节）。"
    )


def test_the_year_after_the_last_announced_is_refused(cn: WorkCalendar) -> None:
    with pytest.raises(Unannounced, match=r"2027.*calendar/2027"):
        due(cn, datetime(2026, 12, 31, 16, tzinfo=ZONE), Limit.parse("1WD"))


@pytest.mark.skipif(not SPECIAL.exists(), reason="the list of special days is not here")
def test_the_source_says_what_an_independent_list_says(cn: WorkCalendar) -> None:
    with SPECIAL.open() as file:
        listed = {date.fromisoformat(r["date"]): (r["kind"], *r["name"].split(",")[:2]) for r in csv.DictReader(file)}
    known = {d: (day.kind, day.en, day.zh) for d, day in cn.days.items() if 2021 <= d.year <= 2026}
    assert len(listed) == 218 and known.items() >= listed.items()
    more = known.keys() - listed.keys()
    # The weekend before the New Year of 2024, which the source counts to the holiday; nobody worked on it either way.
    assert more == {date(2023, 12, 30), date(2023, 12, 31)} and not any(cn.works(d) for d in more)
    assert cn.years is not None and max(cn.years) == 2026 and cn.known(2021) and not cn.known(2027)


def test_weekends_only_knows_every_year(engine: Engine) -> None:
    calendar, _ = loaded(engine, "none")
    assert due(calendar, datetime(2051, 3, 3, 9, tzinfo=UTC), Limit.parse("1WD")) and calendar.days == {}
    assert calendar.editions == (DEFAULT,)


def test_an_unknown_source_is_refused_at_once() -> None:
    with pytest.raises(Invalid, match="no calendar 'mars'; known are: cn, none") as error:
        calendar_of(ZONE, "mars")
    assert error.value.field == "/calendar"


def test_a_year_is_announced_by_its_complete_list(engine: Engine) -> None:
    calendar, kept = loaded(engine)
    start, limit = datetime(2027, 2, 4, 16, tzinfo=ZONE), Limit.parse("1WD")
    with pytest.raises(Unannounced):
        due(calendar, start, limit)
    with engine.begin() as c:
        found = load_year(Tx(c, "99"), kept, 2027, SPRING, complete=False)
        assert not found.announced and not kept.get(c).known(2027), "days alone announce nothing"
    with engine.begin() as c:
        found = load_year(Tx(c, "99"), kept, 2027, SPRING | SWAPPED, complete=True)
        assert found.announced and found.added == [*SWAPPED] and not found.removed and found.now_worked is None
        # Thursday 2 h, nine days free until Saturday, Sunday worked 6 h.
        assert due(kept.get(c), start, limit) == datetime(2027, 2, 14, 16, tzinfo=ZONE)
        assert days.complete_here(c, 2027) and not days.complete_here(c, 2026)
    with engine.begin() as c:
        found = load_year(Tx(c, "99"), kept, 2027, {}, complete=False)
        assert not found.announced and len(found.removed) == 9 and not kept.get(c).known(2027)


def test_own_days_stand_before_the_source_and_leave_the_rest(engine: Engine) -> None:
    before, kept = loaded(engine)
    own = {
        date(2026, 10, 3): Day("workday", "应急值守", "Emergency Duty", "own"),
        date(2026, 9, 14): Day("holiday", "地方节日", "Local Day", "own"),
    }
    with engine.begin() as c:
        dry = compare(c, kept, 2026, own, complete=False)
        assert kept.get(c) is before
        done = load_year(Tx(c, "99"), kept, 2026, own, complete=False)
        assert done == dry and done.now_worked == [date(2026, 10, 3)] and done.now_free == [date(2026, 9, 14)]
        after = kept.get(c)
    assert after.works(date(2026, 10, 3)) and not after.works(date(2026, 9, 14)) and not after.works(date(2026, 10, 2))
    assert before.days.items() - after.days.items() == {(date(2026, 10, 3), before.days[date(2026, 10, 3)])}
    with engine.begin() as c:
        other = {date(2026, 9, 15): own[date(2026, 9, 14)], date(2026, 10, 3): Day("workday", "值守", "Duty", "own")}
        done = load_year(Tx(c, "99"), kept, 2026, other, complete=False)
        assert (done.added, done.removed, done.changed) == ([date(2026, 9, 15)], [date(2026, 9, 14)], [date(2026, 10, 3)])


def test_a_complete_list_takes_the_place_of_the_source(engine: Engine) -> None:
    _, kept = loaded(engine)
    only = {date(2026, 10, 1): Day("holiday", "国庆节", "National Day", "own")}
    with engine.begin() as c:
        done = load_year(Tx(c, "99"), kept, 2026, only, complete=True)
        assert date(2026, 2, 16) in (done.now_worked or []) and date(2026, 10, 10) in (done.now_free or [])
        assert [d for d in kept.get(c).days if d.year == 2026] == [date(2026, 10, 1)]
        assert date(2025, 10, 1) in kept.get(c).days, "other years are the source's"


@pytest.mark.parametrize(
    ("given", "complete", "field"),
    [
        ({date(2026, 1, 1): Day("holiday", "x", "x")}, False, "/days/0/day"),
        ({date(2027, 3, 3): Day("workday", "x", "x")}, False, "/days/0/day"),
        ({}, True, "/days"),
        (SWAPPED, True, "/days"),
    ],
    ids=["another year", "a Wednesday", "nothing", "no holiday"],
)
def test_a_senseless_list_is_refused_whole(engine: Engine, given: dict[date, Day], complete: bool, field: str) -> None:
    _, kept = loaded(engine)
    with engine.begin() as c:
        load_year(Tx(c, "99"), kept, 2027, SPRING, complete=True)
    for act in (load_year, lambda tx, *a, **k: compare(tx.connection, *a, **k)):
        with engine.begin() as c, pytest.raises(Invalid) as error:
            act(Tx(c, "99"), kept, 2027, given, complete=complete)
        assert error.value.field == field
    with reading(engine) as c:
        assert kept.get(c).known(2027) and len([d for d in kept.get(c).days if d.year == 2027]) == 8


def test_periods_by_edition(engine: Engine) -> None:
    _, kept = loaded(engine)
    summer = Season((5, 1), (9, 30), ((480, 720), (900, 1140)))
    winter = Season((10, 1), (4, 30), ((540, 780), (870, 1110)))
    editions = [Edition(date(2026, 6, 1), (summer, winter)), Edition(date(2025, 1, 1), DEFAULT.seasons)]
    with engine.begin() as c:
        set_periods(Tx(c, "99"), kept, editions)
        calendar = kept.get(c)
    assert sorted(calendar.editions, key=lambda e: e.valid_from, reverse=True) == editions
    assert due(calendar, datetime(2026, 5, 29, 17, tzinfo=ZONE), Limit(2, "WH")) == datetime(2026, 6, 1, 9, tzinfo=ZONE)
    assert due(calendar, datetime(2026, 6, 1, 17, tzinfo=ZONE), Limit(3, "WH")) == datetime(2026, 6, 2, 9, tzinfo=ZONE)
    with engine.begin() as c, pytest.raises(Invalid, match="same day"):
        set_periods(Tx(c, "99"), kept, [editions[0], editions[0]])
    with engine.begin() as c:
        set_periods(Tx(c, "99"), kept, [])
        assert kept.get(c).editions == (DEFAULT,)


@pytest.fixture
def served(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with node(tmp_path, engine, calendar="cn") as found:
        found.runtime.extra["around"].calendar = calendar_of(ZONE, "cn")
        yield found


def new_year(**changes: Any) -> dict[str, Any]:
    all_days = SPRING | SWAPPED
    listed = [{"day": d.isoformat(), "kind": day.kind, "name_zh": day.zh, "name_en": day.en} for d, day in all_days.items()]
    return {"days": listed, "complete": True, "source": "国务院办公厅通知"} | changes


def test_an_unannounced_year_over_http(served: Served) -> None:
    """Refused with the way to load it; tried dry; loaded; and then deadlines are there."""
    asked, admin = {"start": "2027-02-04T16:00:00+08:00", "limit": "1WD"}, served.as_("administrator")
    problem = refused(served.client.get(f"{API}/deadline", params=asked), 422)
    assert problem["year"] == 2027 and f"PUT {API}/calendar/2027" in problem["detail"]
    year = served.client.get(f"{API}/calendar/2027").json()
    assert year == {"year": 2027, "calendar": "cn", "announced": False, "complete": False, "work_days": None, "days": []}

    dry = served.client.put(f"{API}/calendar/2027", json=new_year(), headers=admin, params={"dry_run": "true"})
    assert dry.status_code == 200 and YearLoaded.model_validate(dry.json()).announced and len(dry.json()["added"]) == 9
    assert not served.client.get(f"{API}/calendar/2027").json()["announced"], "a dry run changes nothing"
    done = served.client.put(f"{API}/calendar/2027", json=new_year(), headers=admin)
    assert done.json() == dry.json() | {"dry_run": False}

    shown = CalendarYear.model_validate(served.client.get(f"{API}/calendar/2027").json())
    assert shown.announced and shown.complete and shown.work_days == 261 - 6 + 1
    assert {d.source for d in shown.days} == {"国务院办公厅通知"} and len(shown.days) == 9
    found = Deadline.model_validate(served.client.get(f"{API}/deadline", params=asked).json())
    assert found.due == "2027-02-14T08:00:00.000000Z" and found.words.zh == "1个工作日"
    assert "Sunday 2027-02-14 is a work day (Spring Festival)" in found.explanation.en


def test_the_year_before_the_change_is_what_the_source_says(served: Served) -> None:
    shown = CalendarYear.model_validate(served.client.get(f"{API}/calendar/2026").json())
    assert shown.announced and not shown.complete and {d.source for d in shown.days} == {"cn"}
    assert shown.days[0].model_dump() == {
        "day": "2026-01-01", "kind": "holiday", "name_zh": "元旦", "name_en": "New Year's Day", "source": "cn",
    }  # fmt: skip


def test_periods_over_http(served: Served) -> None:
    admin = served.as_("administrator")
    now = served.client.get(f"{API}/calendar/periods").json()
    default = [{"start": "08:00", "end": "12:00"}, {"start": "14:00", "end": "18:00"}]
    assert now == {"editions": [], "default": default}
    body = {"editions": [{"valid_from": "2026-01-01", "seasons": [
        {"first": "05-01", "last": "09-30", "periods": [{"start": "08:00", "end": "24:00"}]},
        {"first": "10-01", "last": "04-30", "periods": default},
    ]}]}  # fmt: skip
    done = served.client.put(f"{API}/calendar/periods", json=body, headers=admin)
    assert done.status_code == 200 and done.json() == body | {"default": default}
    assert served.client.get(f"{API}/calendar/periods").json() == PeriodsNow.model_validate(done.json()).model_dump()
    asked = {"start": "2026-06-01T08:00:00+08:00", "limit": "16WH"}
    assert served.client.get(f"{API}/deadline", params=asked).json()["due"] == "2026-06-01T16:00:00.000000Z"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"start": "2026-03-06T17:20:00", "limit": "2WD"}, "/start"), ({"start": "yesterday", "limit": "2WD"}, "/start"),
        ({"start": "9999-12-31T23:00:00Z", "limit": "2UH"}, "/start"),
        ({"start": "0001-01-01T00:00:00+23:00", "limit": "2UH"}, "/start"),
        ({"start": "2026-03-06T17:20:00Z", "limit": "2 days"}, "/limit"), ({"start": "2026-03-06T17:20:00Z"}, "/limit"),
        ({"start": "2026-03-06T17:20:00Z", "limit": "2WD", "zone": "UTC"}, "/zone"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_refused(served: Served, params: dict[str, str], field: str) -> None:
    refused(served.client.get(f"{API}/deadline", params=params), 422, field)


def test_who_may_load_and_what_is_refused(served: Served) -> None:
    admin = served.as_("administrator")
    for path, body in ((f"{API}/calendar/2027", new_year()), (f"{API}/calendar/periods", {"editions": []})):
        refused(served.client.put(path, json=body), 401)
        refused(served.client.put(path, json=body, headers=served.as_("shift_supervisor")), 403)
    day = new_year()["days"][0]
    for wrong, field in (
        (new_year(days=[day, day]), "/days/1/day"), (new_year(days=[day | {"day": "2027-02-30"}]), "/days/0/day"),
        (new_year(days=[day | {"day": "2026-02-05"}]), "/days/0/day"), (new_year(days=[]), "/days"),
        (new_year(days=[day | {"name_zh": "<b>春节</b>"}]), "/days/0/name_zh"),
        (new_year(days=[day | {"kind": "half"}]), "/days/0/kind"),
        (new_year(source=""), "/source"), (new_year(more=1), "/more"),
    ):  # fmt: skip
        refused(served.client.put(f"{API}/calendar/2027", json=wrong, headers=admin), 422, field)
    for year in ("1979", "2201", "soon"):
        refused(served.client.get(f"{API}/calendar/{year}"), 422, "/year")
    season = {"first": "01-01", "last": "12-31", "periods": [{"start": "08:00", "end": "12:00"}]}
    edition = {"valid_from": "2026-01-01", "seasons": [season]}
    for editions, field in (
        ([edition, edition], "/editions/1/valid_from"),
        ([edition | {"valid_from": "2026-02-29"}], "/editions/0/valid_from"),
        ([edition, edition | {"valid_from": "2027-01-01", "seasons": [season | {"last": "06-31"}]}],
         "/editions/1/seasons/0/last"),
        ([edition | {"seasons": [season | {"last": "06-30"}]}], "/editions/0/seasons"),
        ([edition | {"seasons": [season | {"periods": [{"start": "12:00", "end": "08:00"}]}]}],
         "/editions/0/seasons/0/periods/0"),
        ([edition | {"seasons": [season | {"periods": [{"start": "8", "end": "12:00"}]}]}],
         "/editions/0/seasons/0/periods/0/start"),
    ):  # fmt: skip
        refused(served.client.put(f"{API}/calendar/periods", json={"editions": editions}, headers=admin), 422, field)
    assert served.client.get(f"{API}/calendar/periods").json()["editions"] == []


def test_another_process_follows_a_loaded_year(served: Served) -> None:
    """A second kept copy, as of a process of its own, sees the year with its next question."""
    other = calendar_of(ZONE, "cn")
    with reading(served.runtime.engine) as c:
        assert not other.get(c).known(2027)
    assert served.client.put(f"{API}/calendar/2027", json=new_year(), headers=served.as_("administrator")).status_code == 200
    with reading(served.runtime.engine) as c:
        assert other.get(c).known(2027)
        assert other.get(c).days[date(2027, 2, 5)].zh == "春节"
        assert due(other.get(c), datetime(2027, 12, 31, 8, tzinfo=ZONE), Limit.parse("1WD")) - timedelta(hours=10) == datetime(
            2027, 12, 31, 8, tzinfo=ZONE
        )
