"""Full-text search against a slow search that looks at every text, on both databases: words, characters, pages, filters."""

from __future__ import annotations

import random
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, delete, event, func, insert, select, text, update

from deploy.migrate import migrate
from services.case import lists, postings, search
from services.case.lists import Filters
from services.case.postings import BLOCK
from services.case.tables import cases
from services.case.terms import LAST, fold, line, snippet, terms, tokens
from shared.clock import stamp
from shared.database import Tx, reading
from shared.errors import Invalid
from tests import served
from tests.case.clerks import Office
from tests.served import refused

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
CHARS, WORDS = "路灯坏了不亮井盖的", ("led", "LED", "No.5", "12", "1205", "gate-7", "Straße")
DIVISIONS, STATES = ("990101001001", "990101001002", "990102001001"), ("reported", "handling", "closed", "suspended")


def wide(char: str) -> bool:
    """Written without spaces, as the databases of characters name it; what hangs on a kana is part of it."""
    name = unicodedata.name(char, "")
    letters = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER", "HANGUL SYLLABLE")
    return name.startswith((*letters, "IDEOGRAPHIC ITERATION", "IDEOGRAPHIC NUMBER", "KATAKANA-HIRAGANA PROLONGED"))


@cache
def runs(written: str) -> list[str]:
    """The runs of a text, found character by character."""
    found: list[str] = []
    last = ""
    for char in fold(written):
        kind = "wide" if wide(char) else "word" if char.isalnum() else "mark" if unicodedata.category(char)[0] == "M" else ""
        if kind == "mark":
            kind = last if last == "word" else ""
        if kind and kind == last:
            found[-1] += char
        elif kind:
            found.append(char)
        last = kind
    return found


def fits(written: str, asked: str) -> bool:
    """The meaning of a search, written anew: every run of what is asked is somewhere in the text."""
    there = runs(written)
    for run in runs(asked):
        if wide(run[0]):
            hit = any(run in other for other in there)
        elif run.isascii() and run.isdigit():
            hit = any(other.startswith(run) or other.endswith(run) for other in there)
        else:
            hit = any(other.startswith(run) for other in there)
        if not hit:
            return False
    return True


LETTERS = [*CHARS, *"一々カｶ한éAａß1２0٣ ，_-", "e\u0301", "\u0f40\u0f72"]
ALPHABET = st.sampled_from(LETTERS)
TEXTS = st.lists(ALPHABET, max_size=30).map("".join)


@given(TEXTS, TEXTS)
@settings(max_examples=600, deadline=None)
def test_what_fits_is_known_from_the_line_and_never_missed_by_the_tokens(written: str, asked: str) -> None:
    kept = line(written)
    assert kept.split() == runs(written)
    try:
        sought = terms(asked)
    except Invalid as refusal:
        assert refusal.field == "/text" and (not runs(asked) or len(set(runs(asked))) > 8)
        return
    by_line = all(any(needle in kept for needle in term.needles) for term in sought)
    assert by_line == fits(written, asked)
    if by_line:
        there = {token.encode() for token in tokens(kept)}
        for term in sought:
            assert set(term.exact()) <= there
            ranges = term.ranges()
            assert not ranges or any(begin <= token < end for token in there for begin, end in ranges)
            assert bool(ranges) != bool(term.exact())


@given(st.text(max_size=60), st.integers(0, 60), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_any_piece_of_a_text_without_spaces_finds_it(written: str, start: int, length: int) -> None:
    for run in runs(written):
        if wide(run[0]) and (piece := run[start % len(run) :][:length]):
            assert fits(written, piece) and all(n in line(written) for n in terms(piece)[0].needles)


@given(st.sets(st.integers(0, BLOCK - 1), min_size=1))
def test_places_are_kept_as_they_are(standing: set[int]) -> None:
    stored = postings.encoded(sorted(standing))
    assert list(postings.places(postings.decoded(stored))) == sorted(standing, reverse=True)
    assert len(stored) <= BLOCK // 8


def test_marks_and_ends() -> None:
    assert max("\U0003ffff".encode(), "é".encode()) < LAST
    assert snippet(("前面的ＬＥＤ灯坏了", None), terms("led")) == "前面的ＬＥＤ灯坏了", "shown as it was written"
    long = "甲" * 100 + "路灯" + "乙" * 100
    found = snippet((None, long), terms("路灯"))
    assert found is not None and "路灯" in found and found.startswith("…") and found.endswith("…") and len(found) < 100
    assert snippet(("nothing here",), terms("路灯")) is None


@dataclass
class Kept:
    """A node's cases and what each is found by."""

    engine: Engine
    rows: list[dict[str, Any]] = field(default_factory=list)
    pieces: dict[str, str] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: dict[str, Any], *more: str) -> None:
        """A case that came, or that something came to: then it is the newest again."""
        self.rows = [known for known in self.rows if known["id"] != row["id"]] + [row]
        self.added[row["id"]] = [*self.added.get(row["id"], ()), *more]
        own = [str(row[k]) for k in ("number", "text", "place", "category", "part") if row[k]]
        self.pieces[row["id"]] = "，".join([*own, *self.added[row["id"]]])

    def found(self, asked: Filters, limit: int = 50, most: int = 1000) -> list[str]:
        """Every page of a search, one after another."""
        ids: list[str] = []
        cursor: str | None = None
        for _ in range(most):
            with reading(self.engine) as connection:
                page, cursor = lists.found(connection, asked, chain, BEGIN, cursor, limit)
            ids += [row["id"] for row in page]
            assert len(page) <= limit
            if cursor is None:
                return ids
        raise AssertionError("the pages do not end")

    def expected(self, asked: Filters) -> list[str]:
        return [r["id"] for r in reversed(self.rows) if fits(self.pieces[r["id"]], asked.text or "") and passes(r, asked)]


def chain(division: str) -> tuple[str, ...]:
    return (division, division[:9], division[:6], division[:4], "99")


def passes(row: dict[str, Any], asked: Filters) -> bool:
    if any(getattr(asked, n) not in (None, row[n]) for n in ("state", "category", "department", "part")):
        return False
    if asked.area and asked.area not in chain(row["division"]):
        return False
    since, until = (datetime.fromisoformat(t) if t else None for t in (asked.reported_from, asked.reported_to))
    at = datetime.fromisoformat(row["reported_at"])
    return (since is None or at >= since) and (until is None or at < until)


def written(dice: random.Random) -> str:
    parts = ["".join(dice.choices(CHARS, range(len(CHARS), 0, -1), k=dice.randint(1, 7))) for _ in range(dice.randint(0, 4))]
    return dice.choice("，。 、").join(parts + dice.sample(WORDS, dice.randint(0, 2)))


def made(n: int, dice: random.Random) -> dict[str, Any]:
    at = BEGIN + timedelta(minutes=n, seconds=dice.randrange(0, 90))
    state = dice.choice(STATES)
    return dict.fromkeys(c.name for c in cases.c if c.server_default is None) | {
        "id": f"c{n:05d}", "number": f"990101-{at:%Y%m%d}-{n:05d}", "version": 1, "state": state, "edition": "e",
        "category": dice.choice(("E0101", "E0102")), "channel": "hotline", "provenance": "live", "lon": 1.0, "lat": 1.0,
        "division": dice.choice(DIVISIONS), "department": dice.choice((None, "lamps", "roads")),
        "part": f"99010101{dice.randrange(10**8):08d}" if n % 5 == 0 else None,
        "text": written(dice), "place": written(dice) or None,
        "reported_at": stamp(at), "changed_at": stamp(at), "last_at": stamp(at),
    }  # fmt: skip


def columns(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if v is not None}


@pytest.fixture
def kept(engine: Engine) -> Kept:
    """One full block, written, and half a thousand cases behind it that the postings do not know yet; some were added to, some
    were corrected."""
    dice, found = random.Random(11), Kept(engine)
    with engine.begin() as connection:
        tx = Tx(connection, "99")
        for n in range(BLOCK + 500):
            row = made(n, dice)
            connection.execute(insert(cases), columns(row))
            postings.index(tx, row)
            found.add(row)
        postings.seal(connection)
        for row in dice.sample(found.rows, 60):
            changed, more = dict(row), [written(dice) for _ in range(dice.randrange(0, 3))]
            if dice.random() < 0.5:
                changed |= {"category": "E0199", "part": "9901010199999999", "division": dice.choice(DIVISIONS)}
                new = {name: changed[name] for name in ("category", "part", "division")}
                connection.execute(update(cases).where(cases.c.id == row["id"]).values(**new))
            postings.add(tx, changed, *more)
            found.add(changed, *more)
    return found


def chosen(dice: random.Random, kept: Kept) -> Filters:
    def some(value: Any, chance: float = 0.25) -> Any:
        return value if dice.random() < chance else None

    row = dice.choice(kept.rows)
    asked = [dice.choice(WORDS), row["number"], row["number"][-4:], (row["part"] or "990")[-6:], "12", "1", "le", "龘"]
    asked += ["".join(dice.choices(CHARS, k=dice.randint(1, 4))) for _ in range(14)]
    since = BEGIN + timedelta(minutes=dice.randrange(0, 2500))
    return Filters(
        text=" ".join(dice.sample(asked, dice.choice((1, 1, 1, 2, 3)))), state=some(dice.choice(STATES)),
        category=some(dice.choice(("E0101", "E0102", "E0199"))), department=some("lamps"),
        area=some(dice.choice(DIVISIONS)[: dice.choice((4, 6, 9, 12))]), part=some(row["part"], 0.05),
        reported_from=some(since.isoformat()), reported_to=some((since + timedelta(minutes=dice.randrange(0, 2000))).isoformat()),
    )  # fmt: skip


def test_against_a_search_that_looks_at_everything(kept: Kept) -> None:
    dice, met = random.Random(5), 0
    with reading(kept.engine) as connection:
        unknown = connection.execute(select(postings.fresh.c.seq)).scalars().all()
        assert 500 < len(unknown) < 600 and min(unknown) >= BLOCK
    for _ in range(150):
        asked = chosen(dice, kept)
        expected = kept.expected(asked)
        assert kept.found(asked, dice.choice((7, 50, 200)) if len(expected) < 500 else 200) == expected, asked
        met += bool(expected)
    assert met > 60


def test_what_commits_too_late_for_its_block_moves_to_the_newest_place(kept: Kept) -> None:
    late = kept.rows[3]
    with kept.engine.begin() as connection:
        place = connection.execute(select(postings.texts.c.seq).where(postings.texts.c.case_id == late["id"])).scalar_one()
        assert place < BLOCK and postings.full(connection) == []
        connection.execute(insert(postings.fresh), {"seq": place})
    asked = Filters(text=late["number"])
    assert kept.found(asked) == [late["id"]]
    with kept.engine.begin() as connection:
        assert postings.full(connection) == [0]
        postings.seal(connection)
        assert postings.full(connection) == []
    assert kept.found(asked) == [late["id"]]
    kept.add(late)
    for words in ("路", "led", "1"):
        assert kept.found(Filters(text=words), 200) == kept.expected(Filters(text=words))


def test_a_block_that_changes_while_it_is_cut(kept: Kept) -> None:
    """Cutting reads for a tenth of a second, and meanwhile cases go elsewhere."""
    dice = random.Random(2)
    with kept.engine.begin() as connection:
        tx = Tx(connection, "99")
        for n in range(5000, 5000 + BLOCK):
            row = made(n, dice)
            connection.execute(insert(cases), columns(row))
            postings.index(tx, row)
            kept.add(row)
        (block,) = postings.full(connection)
        sheaf = postings.gather(connection, block)
        for row in kept.rows[-BLOCK - 300 : -BLOCK : 10]:
            postings.add(tx, row, "龘龘龘")
            kept.add(row, "龘龘龘")
        postings.put(connection, sheaf)
        postings.put(connection, sheaf)
        assert postings.full(connection) == [], "written twice is written once"
    for words in ("龘龘", "路灯", "led", "1205"):
        assert kept.found(Filters(text=words), 200) == kept.expected(Filters(text=words))


def test_bounded_work_makes_short_pages_and_loses_nothing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CANDIDATES", 40)
    monkeypatch.setattr(search, "WALKED", 1)
    monkeypatch.setattr(search, "NARROW", 1)
    monkeypatch.setattr(lists, "FEW", 5)
    filtered = [Filters(text="路", state="suspended"), Filters(text="路", category="E0102")]
    for asked in (*filtered, Filters(text="led 的"), Filters(text="龘")):
        assert kept.found(asked, 10) == kept.expected(asked), asked
        with reading(kept.engine) as connection:
            page, following = lists.found(connection, asked, chain, BEGIN, None, 1000)
        assert following is not None and len(page) < len(kept.expected(asked)) + 1, "the first page gave up early"


def test_cases_that_were_never_indexed_are_adopted(engine: Engine) -> None:
    dice, found = random.Random(3), Kept(engine)
    with engine.begin() as connection:
        for n in range(BLOCK + 20):
            row = made(n, dice)
            connection.execute(insert(cases), columns(row))
            found.add(row)
        assert postings.adopt(connection) == BLOCK + 20 and postings.adopt(connection) == 0
        tx, row = Tx(connection, "99"), made(9000, dice) | {"text": "龘龘"}
        connection.execute(insert(cases), columns(row))
        postings.add(tx, row, "added before it was known")
        found.add(row | {"place": (row["place"] or "") + " added before it was known"})
    for asked in ("路灯", "led", found.rows[7]["number"], "龘", "added", "路 灯 坏"):
        assert found.found(Filters(text=asked), 100) == found.expected(Filters(text=asked)), asked


def test_the_step_of_the_schema_makes_old_cases_findable(empty_engine: Engine) -> None:
    migrate(empty_engine, "case_0008")
    row = columns(made(1, random.Random(1)) | {"text": "旧的路灯坏了"})
    with empty_engine.begin() as connection:
        names = ", ".join(row)
        connection.execute(text(f"INSERT INTO case_cases ({names}) VALUES ({', '.join(':' + n for n in row)})"), row)
    migrate(empty_engine)
    assert Kept(empty_engine).found(Filters(text="旧的路灯")) == ["c00001"]


def test_a_wrong_question_is_named(kept: Kept) -> None:
    for asked, name in (
        (Filters(text="，。"), "text"), (Filters(text="a b c d e f g h i"), "text"), (Filters(text="路", sort="due"), "sort"),
        (Filters(text="路", reported_from="yesterday"), "reported_from"), (Filters(text="路", bbox="1"), "bbox"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as wrong:
            kept.found(asked)
        assert wrong.value.field == f"/{name}"
    for cursor in ("x", "dGV4dCAtMQ==", "dGV4dCBh", "dGV4dA==", "Y2hhbmdlZCAx"):
        with reading(kept.engine) as connection, pytest.raises(Invalid) as wrong:
            lists.found(connection, Filters(text="路"), chain, BEGIN, cursor)
        assert wrong.value.field == "/cursor"


def test_lists_are_read_along_their_indexes(kept: Kept) -> None:
    """What makes a page cheap at a million cases; PostgreSQL decides by what it knows of the rows, and knows few here."""
    if kept.engine.dialect.name != "sqlite":
        pytest.skip("the plan of a small table says nothing on PostgreSQL")
    for asked, index in (
        (Filters(), "case_cases_changed"), (Filters(stage="handling"), "case_cases_open"),
        (Filters(sort="due"), "case_cases_open_due"),
        (Filters(sort="reported"), "case_cases_by_report"), (Filters(light="red"), "case_cases_open"),
        (Filters(area="99"), "case_cases_division"),
    ):  # fmt: skip
        plans = explained(kept.engine, lambda c, asked=asked: lists.page(c, asked, chain, BEGIN))
        assert any(f"INDEX {index} " in f"{step} " for step in plans), (asked, plans)


def explained(engine: Engine, read: Any) -> list[str]:
    asked: list[tuple[str, Any]] = []

    def heard(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    with reading(engine) as connection:
        event.listen(engine, "before_cursor_execute", heard)
        read(connection)
        event.remove(engine, "before_cursor_execute", heard)
        return [row[3] for s, p in asked for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p)]


def test_a_full_block_is_written_in_the_background(kept: Kept, tmp_path: Path) -> None:
    with kept.engine.begin() as connection:
        connection.execute(delete(postings.blocks))
        connection.execute(delete(postings.postings))
        places = connection.execute(select(postings.texts.c.seq).where(postings.texts.c.seq < BLOCK)).scalars().all()
        connection.execute(insert(postings.fresh), [{"seq": place} for place in places])
        assert postings.full(connection) == [0]
    with served.node(tmp_path, kept.engine):
        until = time.monotonic() + 20
        while time.monotonic() < until and counted(kept.engine, postings.blocks) == 0:
            time.sleep(0.05)
    assert counted(kept.engine, postings.blocks) == 1 and counted(kept.engine, postings.fresh) < 600
    assert kept.found(Filters(text="路灯"), 200) == kept.expected(Filters(text="路灯"))


@pytest.fixture
def office(engine: Engine) -> Iterator[Office]:
    yield Office(engine)


def test_over_http(office: Office, tmp_path: Path) -> None:
    lamp = office.report(text="王家巷12号门前路灯不亮，电话见工单", place="人民路口", part="9901010100000001")
    other = office.report(text="井盖丢失 LED", place="人民东路")
    with served.node(tmp_path, office.engine) as node:
        staff = node.as_("acceptor")

        def ask(headers: dict[str, str] = staff, path: str = "search", **query: Any) -> Any:
            return node.client.get(f"/api/case/v1/{path}", params=query, headers=headers)

        for asked, expected in {
            "路": [other, lamp], "灯": [lamp], "路灯": [lamp], "路口": [lamp], "人民": [other, lamp], "led": [other],
            "ＬＥＤ": [other],
            "路灯 12": [lamp], "000001": [lamp], "990101": [lamp], "灯路": [], "人民路": [lamp], "E0101": [other, lamp],
        }.items():  # fmt: skip
            found = ask(text=asked).json()
            assert [item["id"] for item in found["items"]] == expected and found["next"] is None, asked
        (hit,) = ask(text="路灯不亮").json()["items"]
        assert hit["snippet"].startswith("王家巷12号门前路灯不亮") and not {"text", "place"} & hit.keys()
        (hit,) = ask(text=hit["number"]).json()["items"]
        assert hit["snippet"] is None
        first = ask(text="路", limit=1).json()
        assert [i["id"] for i in ask(text="路", limit=1, cursor=first["next"]).json()["items"]] == [lamp]
        assert [i["id"] for i in ask(path="cases", text="路灯").json()["items"]] == [lamp]
        assert ask(path="cases", text="路", state="closed").json()["items"] == []
        refused(ask(node.as_platform(), text="路"), 403)
        refused(ask(node.as_platform(), path="cases", text="路"), 403, "/text")
        refused(ask(), 422, "/text")
        refused(ask(text="？"), 422, "/text")
        refused(ask(text="路", colour="red"), 422, "/colour")
        refused(ask(text="路", cursor="x"), 422, "/cursor")


def test_a_refused_report_is_not_found(office: Office) -> None:
    with pytest.raises(Invalid):
        office.report(text="龘龘", lon=80.0, lat=1.0)
    before = counted(office.engine, postings.texts)
    office.report(text="龘龘")
    assert counted(office.engine, postings.texts) == before + 1
    assert len(Kept(office.engine).found(Filters(text="龘"))) == 1


def counted(engine: Engine, table: Table) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
