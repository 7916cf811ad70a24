"""Pages of cases on both databases: every filter against a count by hand, the promise of the cursor, and the three formats."""

from __future__ import annotations

import base64
import csv
import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from shapely.geometry import Point, shape
from sqlalchemy import Engine, insert, update

from services.evaluation.queries import CASE_COLUMNS
from services.evaluation.tables import cases
from shared.clock import stamp
from shared.database import reading
from shared.errors import Invalid
from shared.listing import Wanted, answer, page, tagged

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
DIVISIONS = ("110101001001", "110101001002", "110101002001", "110102001001", "12", "120101001001")
STATES, CATEGORIES = ("reported", "filed", "closed"), ("E0101", "E0102", "P0101")
Row = dict[str, Any]


def chain(division: str) -> tuple[str, ...]:
    return tuple(division[:n] for n in (12, 9, 6, 4, 2) if n <= len(division))


def made(n: int, dice: random.Random) -> Row:
    """Whole minutes and half degrees, so that equal values and borders are met often."""
    at = BEGIN + timedelta(minutes=dice.randrange(0, 90))
    return dict.fromkeys(c.name for c in cases.c) | {
        "id": f"c{dice.randrange(10**9):09d}-{n}", "origin": "11", "division": dice.choice(DIVISIONS), "open": False,
        "exempt": False, "counted": "",
        "category": dice.choice(CATEGORIES), "channel": "hotline", "provenance": "live", "number": f"n{n}", "edition": "e",
        "lon": dice.randrange(0, 20) / 2, "lat": dice.randrange(0, 20) / 2, "state": dice.choice(STATES),
        "reported_at": stamp(at), "changed_at": stamp(at + timedelta(minutes=dice.randrange(0, 30))),
    }  # fmt: skip


@pytest.fixture
def rows(engine: Engine) -> list[Row]:
    dice = random.Random(7)
    found = [made(n, dice) for n in range(400)]
    with engine.begin() as c:
        c.execute(insert(cases), found)
    return found


def order(row: Row) -> tuple[str, str]:
    return row["changed_at"], row["id"]


def walk(engine: Engine, wanted: Wanted) -> Iterator[list[Row]]:
    while True:
        with reading(engine) as c:
            found, following = page(c, cases, CASE_COLUMNS, wanted, chain)
        yield found
        if following is None:
            return
        wanted = wanted._replace(cursor=following)


def fits(row: Row, wanted: Wanted) -> bool:
    """The meaning of the filters, written anew."""
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text)

    if wanted.category and row["category"] != wanted.category or wanted.state and row["state"] != wanted.state:
        return False
    if wanted.area and not row["division"].startswith(wanted.area):
        return False
    if wanted.reported_from and moment(row["reported_at"]) < moment(wanted.reported_from):
        return False
    if wanted.reported_to and moment(row["reported_at"]) >= moment(wanted.reported_to):
        return False
    if wanted.changed_since and moment(row["changed_at"]) < moment(wanted.changed_since):
        return False
    if wanted.bbox:
        west, south, east, north = map(float, wanted.bbox.split(","))
        return bool(west <= row["lon"] <= east and south <= row["lat"] <= north)
    return True


def chosen(dice: random.Random) -> Wanted:
    def some(value: Any) -> Any:
        return value if dice.random() < 0.35 else None

    def instant() -> str:
        """The same moments in several zones and ways of writing."""
        at = BEGIN + timedelta(minutes=dice.randrange(-10, 130))
        zone = f"{dice.choice('+-')}{dice.randrange(0, 14):02d}:{dice.choice(('00', '30'))}"
        there = at.astimezone(datetime.fromisoformat(f"2026-01-01T00:00:00{zone}").tzinfo)
        return dice.choice([stamp(at), at.isoformat(), there.isoformat()])

    west, south = dice.randrange(0, 20) / 2, dice.randrange(0, 20) / 2
    box = f"{west},{south},{west + dice.randrange(0, 10) / 2},{south + dice.randrange(0, 10) / 2}"
    return Wanted(
        some(dice.choice(CATEGORIES)), some(dice.choice(STATES)), some(dice.choice(DIVISIONS)[: dice.choice((2, 4, 6, 9, 12))]),
        some(instant()), some(instant()), some(instant()), some(box), None, dice.choice((1, 3, 50, 1000)),
    )  # fmt: skip


def test_every_combination_of_filters(engine: Engine, rows: list[Row]) -> None:
    dice, met = random.Random(3), 0
    for _ in range(150):
        wanted = chosen(dice)
        expected = sorted((r for r in rows if fits(r, wanted)), key=order)
        if len(expected) > 60 and wanted.limit < 50:
            wanted = wanted._replace(limit=50)
        pages = list(walk(engine, wanted))
        assert [r["id"] for p in pages for r in p] == [r["id"] for r in expected], wanted
        assert all(len(p) == wanted.limit for p in pages[:-1]) and 0 <= len(pages[-1]) <= wanted.limit
        met += bool(expected)
    assert met > 60


def test_a_row_is_shown_as_it_is_without_what_is_not_published(engine: Engine, rows: list[Row]) -> None:
    (found,) = walk(engine, Wanted(limit=1000))
    by_id = {r["id"]: r for r in rows}
    assert found == [{c: by_id[r["id"]][c] for c in CASE_COLUMNS} for r in found] and len(found) == 400
    assert not {"text", "reporter", "open", "seconds"} & set(found[0])


@pytest.mark.parametrize("seed", range(4))
def test_what_the_cursor_promises_while_cases_change(engine: Engine, rows: list[Row], seed: int) -> None:
    """Each row of the begin comes; what stays comes once; what changes comes again as it is then; new ones come; none is lost."""
    dice, clock = random.Random(seed), BEGIN + timedelta(days=1)
    now, changed, seen = {r["id"]: dict(r) for r in rows}, set[str](), list[Row]()
    for n, found in enumerate(walk(engine, Wanted(limit=23))):
        seen += found
        clock += timedelta(seconds=1)
        with engine.begin() as c:
            # Long before the last page, after which nothing can be promised any more.
            for id in dice.sample(sorted(now), 3) if n < 12 else ():
                change = {"state": dice.choice(STATES), "changed_at": stamp(clock)}
                now[id] |= change
                changed.add(id)
                c.execute(update(cases).where(cases.c.id == id).values(**change))
            if n < 12:
                fresh = made(1000 + n, dice) | {"changed_at": stamp(clock)}
                now[fresh["id"]] = fresh
                c.execute(insert(cases), fresh)
    last = {r["id"]: r for r in seen}
    assert last == {id: {c: r[c] for c in CASE_COLUMNS} for id, r in now.items()}, "kept by id, what came last is the truth"
    times = {id: sum(r["id"] == id for r in seen) for id in now}
    assert all(times[id] == 1 for id in now if id not in changed) and max(times.values()) > 1
    assert [order(r) for r in seen] == sorted(order(r) for r in seen)


WRONG = [
    *(("reported_from", v) for v in ("yesterday", "2026-03-01", "2026-03-01T00:00:00", "2026-02-30T00:00:00Z", "1772323200")),
    ("reported_to", "2026-03-01T00:00:00+25:00"), ("changed_since", "0001-01-01T00:00:00+23:59"),
    ("changed_since", "9999-12-31T23:59:59-23:59"), ("changed_since", "\0"), ("changed_since", ""), ("reported_to", ""),
    *(("bbox", v) for v in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "nan,0,1,1", "0,0,inf,1", "2,0,1,1", "0,2,1,1", "-181,0,1,1")),
    *(("bbox", v) for v in ("0,0,1,91", "0,0,1,1,", "0;0;1;1", "\0")),
    *(("cursor", v) for v in ("x", "é", "\0", "===", "a" * 199)),
]  # fmt: skip
MADE_UP = ("", " ", "2026 c1", "2026-03-01T00:00:00.000000Z", "2026-03-01T00:00:00.000000Z c1 c2", "\0 \0", "z c1")
MADE_UP += ("2026-03-01T00:00:00.000000Z \0", "2026-03-01T00:00:00Z c1", "0001-01-01T00:00:00+23:59 c1", "' OR 1=1 -- x")


WRONG += [("cursor", base64.urlsafe_b64encode(text.encode()).decode()) for text in MADE_UP]


def test_a_wrong_filter_is_named(engine: Engine) -> None:
    for name, value in WRONG:
        with pytest.raises(Invalid) as refused, reading(engine) as c:
            found = page(c, cases, CASE_COLUMNS, Wanted(**{name: value}), chain)
            pytest.fail(f"{name}={value!r} was taken: {found}")
        assert refused.value.field == f"/{name}", value


def test_a_filter_is_text_and_never_part_of_a_question(engine: Engine, rows: list[Row]) -> None:
    for value in ("' OR '1'='1", "%", "_", "E0101' --", "\\", "；", ""):
        for name in ("category", "state", "area"):
            assert list(walk(engine, Wanted(**{name: value}))) == [[]]


def test_geojson(engine: Engine, rows: list[Row]) -> None:
    lost = made(9999, random.Random(1)) | {"id": "lost", "lon": None, "lat": None}
    with engine.begin() as c:
        c.execute(insert(cases), lost)
    (found,) = walk(engine, Wanted(limit=1000))
    response = answer(found, CASE_COLUMNS, "next", "geojson", None)
    assert response.media_type == "application/geo+json" and response.headers["x-next-cursor"] == "next"
    body = orjson.loads(response.body)
    assert body["type"] == "FeatureCollection" and body["next"] == "next"
    by_id = {f["id"]: f for f in body["features"]}
    assert by_id.pop("lost")["geometry"] is None, "a place that is not known is no point"
    for row in rows:
        feature = by_id[row["id"]]
        assert shape(feature["geometry"]).equals(Point(row["lon"], row["lat"]))
        assert feature["type"] == "Feature" and feature["properties"]["state"] == row["state"]
        assert not {"id", "lon", "lat"} & feature["properties"].keys()


def test_csv_reads_back_and_runs_nothing() -> None:
    evil = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", '=HYPERLINK("http://x")', 'a"b,c\nd', "数据", "", None]
    found = [{"id": f"c{n}", "department": text, "lon": -1.5, "on_time": True} for n, text in enumerate(evil)]
    response = answer(found, ("id", "department", "lon", "on_time"), None, "csv", None)
    assert response.media_type == "text/csv; charset=utf-8" and "x-next-cursor" not in response.headers
    read = list(csv.DictReader(io.StringIO(bytes(response.body).decode(), newline="")))
    assert [r["department"] for r in read] == [f"'{t}" if t and t[0] in "=+-@\t\r" else t or "" for t in evil]
    assert not any(cell[:1] in ("=", "+", "@", "\t", "\r") for r in read for cell in r.values())
    assert {r["lon"] for r in read} == {"-1.5"}, "a number is a number"


def test_tags() -> None:
    first = tagged(b"one", "text/plain", None)
    tag = first.headers["etag"]
    assert tag.startswith('W/"') and tagged(b"two", "text/plain", None).headers["etag"] != tag
    for known in (tag, tag.removeprefix("W/"), f'"x", {tag}', f'{tag}, W/"y"'):
        same = tagged(b"one", "text/plain", known)
        assert (same.status_code, same.body, same.headers["etag"]) == (304, b"", tag)
    for other in ("", 'W/"x"', tag[:-2], tag[3:-2], tag.upper()):
        assert tagged(b"one", "text/plain", other).status_code == 200, other
