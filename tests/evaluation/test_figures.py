"""Figures by every combination of dimensions against a count by hand, on both databases; areas at every level; overview."""

from __future__ import annotations

import random
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from deploy.around import Around
from services.evaluation import domain
from services.evaluation.queries import DIMENSIONS, Filter, Group, below, figures, overview, trend
from services.evaluation.tables import cases
from shared.clock import stamp
from shared.database import reading
from shared.errors import Invalid
from tests import served
from tests.evaluation.lives import QUANTITIES, Count, Keys, Row, count, heard, told_by
from tests.evaluation.walks import BEGIN, CATEGORIES, ORIGINS
from tests.served import LEAF, MIDDLE, ROOT

TOLD = {origin: told_by(origin, 60, seed=1) for origin in ORIGINS}
AT = stamp(BEGIN.replace(day=5))
DAYS = sorted(day for (day,) in count(TOLD, AT, lambda row: [(row["day"],)] if row["day"] else [], lambda _: True))
UNKNOWN = ("open", "overdue_open", "median_seconds", "on_time_rate")
COMBINED = [by for n in range(len(DIMENSIONS) + 1) for by in combinations(DIMENSIONS, n)]


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Around:
    node = served.settings(tmp_path_factory.mktemp("around"), ROOT)
    return Around(node, served.pack(node.pack))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    heard(engine, TOLD)
    return engine


def areas(code: str) -> list[str]:
    """Community, street, county, prefecture, region, by the length of the codes alone."""
    return [code, code[:9], code[:6], code[:4] + "00", code[:2] + "0000"]


def grouped(by: tuple[str, ...]) -> Keys:
    def keys(row: Row) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = [()]
        for name in by:
            values = areas(row["division"]) if name == "area" else [row[name]]
            found = [(*key, value) for key in found for value in values]
        return found

    return keys


def expected(by: tuple[str, ...], at: str, wanted: Filter) -> list[dict[str, Any]]:
    def fits(row: Row) -> bool:
        if wanted.origins is not None and row["origin"] not in wanted.origins:
            return False
        if wanted.category is not None and row["category"] != wanted.category:
            return False
        # Backlogs and spans are of cases and have no day.
        return row["day"] == "" or (wanted.first_day or "") <= row["day"] <= (wanted.last_day or "9")

    def keys(row: Row) -> list[tuple[str, ...]]:
        return [] if row["day"] == "" and "day" in by else list(grouped(by)(row))

    found = count(TOLD, at, keys, fits)
    if by == ():
        found.setdefault((), Count())
    unknown = dict.fromkeys(UNKNOWN) if "day" in by else {}
    return [dict(zip(by, key, strict=True)) | found[key].shown() | unknown for key in sorted(found)]


def test_by_every_combination_of_dimensions(filled: Engine, around: Around) -> None:
    for by in COMBINED:
        assert figures(filled, by, Filter(), AT, around.chain) == expected(by, AT, Filter()), by
    assert len(COMBINED) == 64


def test_filtered_in_every_way(filled: Engine, around: Around) -> None:
    dice = random.Random(5)
    for _ in range(60):
        origins, category = dice.sample(ORIGINS, dice.randrange(0, 4)), dice.choice((*CATEGORIES, "X9"))
        chosen = (origins, category, dice.choice(DAYS), dice.choice(DAYS))
        wanted = Filter(*(value if dice.random() < 0.5 else None for value in chosen))  # type: ignore[arg-type]
        by = dice.choice(COMBINED)
        assert figures(filled, by, wanted, AT, around.chain) == expected(by, AT, wanted), (by, wanted)


def test_overdue_is_a_question_of_the_moment(filled: Engine, around: Around) -> None:
    """At the deadline itself it is not overdue yet, a moment later it is; the rate falls with it."""
    dues = sorted({fact.due for log in TOLD.values() for fact in log if getattr(fact, "due", None)})
    late = []
    for due in (dues[0], dues[len(dues) // 2], dues[-1]):
        for at in (stamp(due), stamp(due.replace(microsecond=1))):
            (row,) = figures(filled, (), Filter(), at, around.chain)
            assert [row] == expected((), at, Filter())
            late.append(row["overdue_open"])
    with reading(filled) as c:
        dated = c.execute(select(func.count()).where(cases.c.open, cases.c.due_at.is_not(None))).scalar_one()
    assert late == sorted(late) and late[0] == 0 < late[2] < late[-1] == dated < row["open"], "some clocks stand"


def test_every_level_of_areas_comes_to_the_whole(filled: Engine, around: Around) -> None:
    (whole,) = figures(filled, (), Filter(), AT, around.chain)
    rows = {row["area"]: row for row in figures(filled, ("area",), Filter(), AT, around.chain)}
    communities = {f"{origin}99{street}00{place}" for origin in ORIGINS for street in "01" for place in "12"}
    levels = [{areas(code)[level] for code in communities} for level in range(5)]
    assert [len(codes) for codes in levels] == [16, 8, 4, 2, 1] and set(rows) == set.union(*levels)
    for codes in levels:
        for name in (*QUANTITIES, "open", "overdue_open"):
            assert sum(rows[code][name] for code in codes) == whole[name], name
    assert {k: v for k, v in rows[ROOT].items() if k != "area"} == whole


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        ((0, 0, 0, 0), None), ((0, 4, 0, 0), 0.0), ((4, 4, 0, 4), 0.5), ((1, 4, 0, 3), 0.6), ((0, 3, 0, 3), 1.0),
        ((5, 0, 0, 0), 0.0), ((0, 4, 1, 3), 1.0), ((1, 5, 2, 2), 0.5), ((0, 2, 2, 0), None), ((1, 2, 2, 0), 0.0),
    ],
)  # fmt: skip
def test_the_rate(counts: tuple[int, int, int, int], rate: float | None) -> None:
    """None where nothing was due: neither all nor nothing was on time."""
    known = dict(zip(("overdue_open", "closed", "exempted", "closed_on_time"), counts, strict=True))
    assert domain.on_time_rate(known) == rate


@pytest.mark.parametrize(
    ("spans", "middle"), [([], None), ([5], 5), ([9, 1], 5.0), ([1, 2, 100], 2), ([4, 1, 3, 2], 2.5), ([0, 0], 0)]
)
def test_the_median_is_exact(spans: list[int], middle: float | None) -> None:
    group = Group()
    for span in spans:
        group.add(Group(spans=[span]))
    assert group.shown()["median_seconds"] == middle


@pytest.mark.parametrize("code", [ROOT, MIDDLE, LEAF])
def test_the_overview_shows_the_units_right_below(engine: Engine, around: Around, tmp_path: Path, code: str) -> None:
    node = served.settings(tmp_path, code)
    mine = {origin: log for origin, log in TOLD.items() if origin in node.routes()}
    heard(engine, mine)

    def unit(row: Row) -> list[tuple[str, ...]]:
        return [({ROOT: row["origin"][:4] + "00", MIDDLE: row["origin"], LEAF: row["division"][:9]}[code],)]

    shown = overview(engine, node, around, AT, DAYS[-1], 30)
    rows = shown["children"]
    by_hand = count(mine, AT, unit, lambda _: True)
    assert {row["code"]: row["totals"] for row in rows} == {key[0]: found.shown() for key, found in by_hand.items()}
    assert shown["totals"] == count(mine, AT, lambda _: [()], lambda _: True)[()].shown()
    kinds = count(mine, AT, lambda row: [(row["provenance"],)], lambda _: True)
    assert {k["provenance"]: k["reported"] for k in shown["provenance"]} == {k[0]: c.counts["reported"] for k, c in kinds.items()}
    assert all(row["names"]["zh"] and row["names"]["en"] for row in rows)
    assert [row["code"] for row in rows] == sorted(row["code"] for row in rows) and len(rows) == 2


def test_a_node_that_nobody_told_anything_shows_all_its_units(engine: Engine, around: Around, tmp_path: Path) -> None:
    shown = overview(engine, served.settings(tmp_path, ROOT), around, AT, DAYS[-1], 30)
    assert [row["code"] for row in shown["children"]] == [MIDDLE, "654000"] and shown["totals"] == Count().shown()
    assert overview(engine, served.settings(tmp_path, LEAF), around, AT, DAYS[-1], 30)["children"] == []


def test_the_trend_is_of_the_last_days_that_hold_any(filled: Engine) -> None:
    def shown(today: str, last: int) -> dict[str, dict[str, int]]:
        with reading(filled) as c:
            return {row["day"]: {q: row[q] for q in QUANTITIES} for row in trend(c, today, last)}

    by_hand = {row["day"]: {q: row[q] for q in QUANTITIES} for row in expected(("day",), AT, Filter())}
    for today, last in ((DAYS[-1], 3), (DAYS[2], 3), (DAYS[2], 99), ("2999-01-01", 2)):
        found = shown(today, last)
        assert list(found) == [d for d in DAYS if d <= today][-last:]
        assert found == {day: by_hand[day] for day in found}
    assert shown("1999-01-01", 5) == {}


def test_a_subtree_is_known_by_its_codes(tmp_path: Path) -> None:
    root = served.settings(tmp_path, ROOT)
    assert set(below(root, ROOT)) == {ROOT, MIDDLE, "654000", *ORIGINS}
    assert set(below(root, MIDDLE)) == {MIDDLE, "650102", "650103"} and below(root, LEAF) == [LEAF]
    assert below(served.settings(tmp_path, LEAF), LEAF) == [LEAF]
    for strange in ("6501", "650104", "", "650102990", "\0"):
        with pytest.raises(Invalid) as refused:
            below(root, strange)
        assert refused.value.field == "/node"
    with pytest.raises(Invalid):
        below(served.settings(tmp_path, LEAF), MIDDLE)


assert list(islice(DAYS, 3)) == ["2026-03-01", "2026-03-02", "2026-03-03"], "the seed gives days enough"
