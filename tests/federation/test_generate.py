"""Generated cases: seeded, never in the future, like the published rates, and taken by the push interface without exception."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as parquet
import pytest
from sqlalchemy import Engine

from deploy.around import Around
from deploy.generate import PAUSE, Life, cases
from deploy.mapping import Mapping
from deploy.rates import PUBLISHED, Rates, published
from deploy.render import render
from deploy.topology import load as load_topology
from services.case.push import take
from services.grid.packs import Pack
from services.grid.packs import load as load_pack
from shared.database import Tx
from shared.errors import Invalid
from shared.log import record
from shared.settings import load as load_node

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT.parent / "shared" / "data" / "cases"
ZONE = ZoneInfo("Asia/Shanghai")
UNTIL = datetime(2026, 3, 2, 12, 34, 56, tzinfo=UTC)
SOURCE = "urn:test:generator"
SPOTS = [(1.0, 1.0), (2.0, 2.0)]
Event = dict[str, Any]


def when(event: Event) -> datetime:
    return datetime.fromisoformat(event["time"])


def step(event: Event) -> str:
    return str(event["type"].split(".")[-2])


def twisted() -> Rates:
    """Rates that differ from the published ones in every figure."""
    given = published().model_dump()
    given["arrivals"]["hours"] = [0.5 if h in (2, 3) else 0.0 for h in range(24)]
    given["arrivals"]["weekdays"] = [0.0, 0.0, 0.0, 0.0, 0.2, 0.3, 0.5]
    given["categories"]["shares"] = {"E0101": 0.7, "P0101": 0.3}
    given["refused"] = [given["refused"][0] | {"reason": "not_found", "share": 0.4}]
    given["closing"] |= {"on_time": 0.3, "multiples": [(0.0, 0.5), (0.3, 1.0), (1.0, 3.0)]}
    given["open"]["after_limit"], given["steps"]["rework"] = 0.25, 0.5
    return Rates.model_validate(given)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack(ROOT / "deploy" / "packs" / "xinjiang")


def history(rates: Rates, count: int = 20_000, seed: int = 7) -> list[list[Event]]:
    limits = [(code, 1.0) for code in rates.categories.shares]
    return list(cases(seed, count, UNTIL, SOURCE, limits, SPOTS, days=364, rates=rates, zone=ZONE))


def shares(found: Iterable[Any]) -> dict[Any, float]:
    counted = Counter(found)
    return {key: number / counted.total() for key, number in counted.items()}


def near(found: dict[Any, float], wanted: dict[Any, float], tolerance: float = 0.012) -> None:
    both = {k: (found.get(k, 0.0), wanted.get(k, 0.0)) for k in found | wanted}
    assert {k: pair for k, pair in both.items() if abs(pair[0] - pair[1]) > tolerance} == {}, "found, wanted"


@pytest.mark.parametrize("rates", [published(), twisted()], ids=["published", "twisted"])
def test_a_large_sample_is_like_the_rates(rates: Rates) -> None:
    made = history(rates)
    reports = [when(case[0]).astimezone(ZONE) for case in made]
    near(shares(at.hour for at in reports), dict(enumerate(rates.arrivals.hours)))
    near(shares(at.weekday() for at in reports), dict(enumerate(rates.arrivals.weekdays)))
    near(shares(case[0]["data"]["category"] for case in made), rates.categories.shares)
    ends = shares(case[-1]["data"].get("reason", step(case[-1])) for case in made if when(case[0]) < UNTIL - timedelta(days=4))
    refused = {r.reason: r.share for r in rates.refused}
    accepted = 1 - sum(refused.values())
    kept_open = accepted * rates.open.after_limit
    near(ends, {**refused, "dispatched": kept_open, "closed": accepted - kept_open})
    closed = [{step(e): e for e in case} for case in made if step(case[-1]) == "closed"]
    multiples = sorted((when(c["handled"]) - when(c["filed"])) / timedelta(hours=1) for c in closed)
    assert sum(m <= 1 for m in multiples) / len(multiples) == pytest.approx(rates.closing.on_time, abs=0.012)
    # For each knot of the table the share of the sample below its multiple, since multiples themselves reach far.
    near({s: bisect_right(multiples, m) / len(multiples) for s, m in rates.closing.multiples if 0 < s < 0.99},
         {s: s for s, _ in rates.closing.multiples if 0 < s < 0.99})  # fmt: skip
    assert sum("reworked" in c for c in closed) / len(closed) == pytest.approx(rates.steps.rework, abs=0.012)


def test_the_same_seed_tells_the_same_history_and_another_another() -> None:
    assert history(published(), 200) == history(published(), 200)
    assert history(published(), 200) != history(published(), 200, seed=8)


def test_a_history_is_in_order_ends_in_time_and_says_what_it_is() -> None:
    made = list(cases(3, 2000, UNTIL, SOURCE, [("E0112", 2.0), ("E0113", 120.0)], SPOTS, days=5))
    events = [e for case in made for e in case]
    assert len(made) == 2000 and len({e["id"] for e in events}) == len(events)
    assert all(UNTIL - timedelta(days=5) <= when(e) <= UNTIL for e in events)
    assert [when(c[0]) for c in made] == sorted(when(c[0]) for c in made)
    assert all([when(e) for e in case] == sorted(when(e) for e in case) for case in made)
    assert all(case[0]["data"]["provenance"] == "generated" and len({e["subject"] for e in case}) == 1 for case in made)
    assert {step(e) for e in events} == {"reported", "refused", "filed", "dispatched", "handled", "reworked", "closed"}
    assert any(step(case[-1]) == "dispatched" for case in made), "what is under way at the end stays so"


def test_categories_of_which_the_rates_know_nothing_are_drawn_evenly_and_others_never() -> None:
    unknown = [("X1", 1.0), ("X2", 1.0)]
    drawn = shares(c[0]["data"]["category"] for c in cases(1, 4000, UNTIL, SOURCE, unknown, SPOTS))
    near(drawn, {"X1": 0.5, "X2": 0.5}, 0.03)
    assert {c[0]["data"]["category"] for c in cases(1, 400, UNTIL, SOURCE, [*unknown, ("E0112", 1.0)], SPOTS)} == {"E0112"}


# --- life --------------------------------------------------------------------------------------------------------------------


def life(seed: int = 5, rates: Rates | None = None, **more: Any) -> Life:
    limits = [("E0112", 2.0), ("E0135", 48.0), ("E0113", 120.0)]
    return Life(seed, SOURCE, limits, SPOTS, rates, zone=ZONE, **more)


def run(found: Life, begin: datetime, span: timedelta, every: timedelta, since: datetime | None = None) -> list[Event]:
    """Everything told from `begin` (or `since`) on; fails at an event that lies in the future or at one that came too late."""
    told, now, before = [], begin, since or begin
    while now <= begin + span:
        events = found.tick(now)
        assert all(before <= when(e) <= now for e in events)
        told += events
        before, now = now, now + every
    return told


def test_what_happens_does_not_depend_on_how_often_one_looks() -> None:
    fine = run(life(), UNTIL, timedelta(hours=2), timedelta(seconds=1))
    coarse = run(life(), UNTIL, timedelta(hours=2), timedelta(minutes=4))
    assert fine == coarse and len(fine) > 1000
    assert run(life(6), UNTIL, timedelta(hours=2), timedelta(minutes=4)) != fine


def test_reports_come_as_often_as_asked_and_at_the_hours_of_the_rates() -> None:
    told = run(life(per_minute=2, pace=1e6), UNTIL, timedelta(days=7), timedelta(minutes=4))
    reports = [when(e).astimezone(ZONE) for e in told if step(e) == "reported"]
    assert len(reports) / (7 * 24 * 60) == pytest.approx(2, rel=0.03)
    near(shares(at.hour for at in reports), dict(enumerate(published().arrivals.hours)))
    quiet = run(life(rates=twisted()), datetime(2026, 3, 2, 0, tzinfo=ZONE), timedelta(hours=20), timedelta(minutes=4))
    assert quiet == [], "the other rates have no report on this weekday"


def test_a_viewer_sees_cases_close_within_minutes_and_deadlines_keep_pace() -> None:
    told = run(life(pace=360), UNTIL, timedelta(hours=1), timedelta(seconds=5))
    by_case: dict[str, dict[str, Event]] = {}
    for event in told:
        by_case.setdefault(event["subject"], {})[step(event)] = event
    spans = [when(c["closed"]) - when(c["reported"]) for c in by_case.values() if "closed" in c]
    assert len(spans) > 100 and sorted(spans)[len(spans) // 2] < timedelta(minutes=5)
    limits = {"E0112": 2.0, "E0135": 48.0, "E0113": 120.0}
    for case in by_case.values():
        if "filed" in case:
            limit = timedelta(hours=limits[case["reported"]["data"]["category"]]) / 360
            due = datetime.fromisoformat(case["filed"]["data"]["due"])
            assert abs(due - when(case["filed"]) - limit) < timedelta(milliseconds=1)
    ends = [(when(c["handled"]), datetime.fromisoformat(c["filed"]["data"]["due"])) for c in by_case.values() if "handled" in c]
    assert any(handled > due for handled, due in ends), "some are late although everything runs faster"


def test_it_goes_on_after_a_restart_as_if_nothing_had_happened() -> None:
    whole = run(life(), UNTIL, timedelta(hours=1), timedelta(seconds=30))
    first = life()
    told = run(first, UNTIL, timedelta(minutes=30), timedelta(seconds=30))
    second = life(seed=99)
    second.load(json.loads(json.dumps(first.save())))
    half = UNTIL + timedelta(minutes=30)
    told += run(second, half + timedelta(seconds=30), timedelta(minutes=29, seconds=30), timedelta(seconds=30), since=half)
    assert told == whole


def test_after_a_long_pause_open_cases_go_on_and_nobody_reported_meanwhile() -> None:
    first = life()
    told = run(first, UNTIL, timedelta(minutes=30), timedelta(seconds=30))
    begin = UNTIL + timedelta(hours=9)
    second = life()
    second.load(json.loads(json.dumps(first.save())))
    later = second.tick(begin)
    assert later and all(when(e) < begin for e in later if step(e) != "reported")
    assert [e for e in later if step(e) == "reported" and when(e) < begin - PAUSE] == []
    told += later + run(second, begin + timedelta(seconds=30), timedelta(minutes=30), timedelta(seconds=30))
    assert len({e["id"] for e in told}) == len(told)


# --- the push interface takes all of it --------------------------------------------------------------------------------------


def taken(engine: Engine, around: Around, events: list[Event], now: Callable[[], datetime]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    with engine.begin() as connection:
        tx = Tx(connection, "650102", now=now, recorder=record)
        for event in events:
            answer = take(tx, around, SOURCE, event)
            assert answer["outcome"] == "accepted", (event, answer)
            outcomes[step(event)] += 1
    return outcomes


def test_every_event_is_accepted(engine: Engine, pack: Pack, tmp_path: Path) -> None:
    topology = load_topology(ROOT / "deploy" / "topologies" / "demo.toml")
    around = Around(load_node(render(topology, "650102", tmp_path)), pack)
    limits = [(c.code, float(c.limit_hours)) for c in pack.catalogue]
    points = [c.outline.representative_point() for c in pack.cells.cells if c.division.startswith("650102")]
    spots = [(p.x, p.y) for p in points]
    made = [e for case in cases(4, 300, UNTIL, SOURCE, limits, spots, zone=ZONE) for e in case]
    outcomes = taken(engine, around, made, lambda: UNTIL)
    assert set(outcomes) == {"reported", "refused", "filed", "dispatched", "handled", "reworked", "closed"}
    going = Life(4, SOURCE, limits, spots, zone=ZONE, per_minute=5)
    for minute in range(0, 60, 5):
        now = UNTIL + timedelta(minutes=minute)
        outcomes += taken(engine, around, going.tick(now), lambda now=now: now)
    assert outcomes["reported"] > 400


# --- the file of rates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weekdays = [0.1727", "weekdays = [0.2727", "rates.toml, whole file: Value error, the shares of weekdays must"),
        ("weekdays = [0.1727, ", "weekdays = [", "rates.toml, arrivals.weekdays: "),
        ("on_time = 0.8342", "on_time = 0.9", "rates.toml, closing: Value error, multiples must go from 0"),
        ("[0.25, 0.07384]", "[0.25, 0.01]", "rates.toml, closing: Value error, multiples must rise"),
        ('reason = "duplicate"', 'reason = "boring"', "rates.toml, refused.0.reason: "),
        ("cases = 8499", "", "rates.toml, closing.cases: Field required"),
    ],
)
def test_a_mistake_in_the_rates_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = PUBLISHED.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "rates.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        Rates.load(tmp_path / "rates.toml")
    assert caught.value.detail.startswith(said)


def reported(name: str) -> list[dict[str, Any]]:
    """The record's cases without those that inspectors opened; `local` is the city's own clock.

    The files hold that clock as if it had been UTC, moved to New York.
    """
    rows = [r for r in parquet.read_table(RECORDS / name).to_pylist() if not r["proactive"]]
    city = ZoneInfo("America/New_York")
    return [r | {"local": r["created_at"].replace(tzinfo=city).astimezone(UTC)} for r in rows]


@pytest.mark.skipif(not RECORDS.exists(), reason="the public records beside the checkout are absent")
def test_the_rates_are_those_of_the_records() -> None:
    rates = published()
    one, two = reported("baltimore_2014_2019.parquet"), reported("boston_sample_2015_2024.parquet")
    assert rates.arrivals.cases == len(one) + len(two)
    near(shares(r["local"].hour for r in one + two), dict(enumerate(rates.arrivals.hours)), 2e-4)
    near(shares(r["local"].weekday() for r in one + two), dict(enumerate(rates.arrivals.weekdays)), 2e-4)
    mapping = Mapping.load(ROOT / "deploy" / "mappings" / "baltimore_2014_2019.yaml")
    named = [r | {"code": code} for r in one if (code := mapping.category(r["subcategory"])) != "E9999"]
    assert rates.categories.cases == len(named)
    near(shares(r["code"] for r in named), rates.categories.shares, 2e-4)
    wanted = {"duplicate": (one + two, "duplicate"), "transferred": (one, "transferred"), "other": (two, "invalid")}
    for refused in rates.refused:
        among, status = wanted[refused.reason]
        assert (refused.cases, refused.share) == (len(among), round(shares(r["status"] for r in among)[status], 4))
    ended = [r for r in named + two if r["status"] == "closed" and r["due_at"] and r["created_at"] < r["due_at"]]
    multiples = sorted((r["closed_at"] - r["created_at"]) / (r["due_at"] - r["created_at"]) for r in ended)
    assert rates.closing.cases == len(multiples)
    assert rates.closing.on_time == round(sum(m <= 1 for m in multiples) / len(multiples), 4)
    for share, multiple in rates.closing.multiples[1:-1]:
        assert bisect_right(multiples, multiple) / len(multiples) == pytest.approx(share, abs=2e-3)
    last = max(parquet.read_table(RECORDS / "baltimore_2014_2019.parquet")["created_at"].to_pylist())
    past = [r["status"] for r in named if r["status"] in ("open", "closed") and r["due_at"] and r["due_at"] <= last]
    assert (rates.open.cases, rates.open.after_limit) == (len(past), round(shares(past)["open"], 4))
