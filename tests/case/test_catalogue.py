"""The catalogue: its rules, editions that follow one another, additions of a node, differences; and all of it over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, insert

from services.case import editions
from services.case.catalogue import Addition, Catalogues, Edition, joined
from services.case.differences import difference
from services.case.entries import Category, Content, checked, next_extension
from services.case.tables import cases
from services.grid.packs import load
from shared.database import Tx, reading, writing
from shared.errors import Conflict, Invalid, NotFound
from shared.kept import Kept
from tests.served import LEAF, MIDDLE, ROOT, Served, node, refused

ZONE = ZoneInfo("Asia/Shanghai")
PACK = load(Path(__file__).resolve().parents[2] / "deploy" / "packs" / "xinjiang").standards.published()
TODAY = date(2026, 3, 2)
PREFIX = "/api/case/v1/catalogue"
CHOICE = {"key": "a", "kind": "choice", "zh": "问"}


def condition(code: str = "1", **more: Any) -> dict[str, Any]:
    return {"code": code, "zh": "立", "limit": "2WD", "closing_zh": "结", "department": "roads", **more}


def category(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "zh": f"类{code}", "en": f"Kind {code}", "conditions": [condition()], **more}


def body(*categories: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "majors": [{"kind": "event", "code": "01", "zh": "大"}, {"kind": "event", "code": "07", "zh": "本", "standard": False}],
        "departments": [{"code": "roads", "zh": "路"}, {"code": "parks", "zh": "园"}],
        "categories": list(categories) or [category("E0101"), category("E0105"), category("E0199", extension=True)],
        **more,
    }


def added(code: str, **more: Any) -> Category:
    return Category.model_validate(category(code, extension=True, **more))


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        (body(category("E0101", conditions=[])), "/categories/0/conditions", "at least one filing condition"),
        (body(category("E0101", conditions=[condition(limit="2天")])), "/categories/0/conditions/0/limit", "such as 2WD"),
        (body(category("E0101", conditions=[condition(limit="02WD")])), "/categories/0/conditions/0/limit", "write 2WD"),
        (body(category("E0101", conditions=[condition(limit="0WD")])), "/categories/0/conditions/0/limit", "at least a second"),
        (body(category("E0101", conditions=[condition(), condition()])), "/categories/0/conditions/1/code", "condition 1 twice"),
        (body(category("E0101", conditions=[condition(department="x")])), "/categories/0/conditions/0/department", "no dep"),
        (body(category("E0101", conditions=[condition(helping=["x"])])), "/categories/0/conditions/0/helping", "no department x"),
        (body(category("E0101"), category("E0101")), "/categories/1/code", "E0101 is there twice"),
        (body(category("E0201")), "/categories/0/code", "no event major class 02"),
        (body(category("P0101")), "/categories/0/code", "no part major class 01"),
        (body(category("E0105"), category("E0104", extension=True)), "/categories/1/code", "the next free number is E0199"),
        (body(category("E0101", questions=[CHOICE])), "/categories/0/questions/0/options", "at least two options"),
        (body(departments=[{"code": "roads", "zh": "路"}] * 2), "/departments/1/code", "roads is there twice"),
        (body(category("X0101")), "/categories/0/code", "pattern"),
        (body(category("E01")), "/categories/0/code", "pattern"),
        (body(category("E0101", zh="<b>")), "/categories/0/zh", "plain text"),
        (body(colour="red"), "/colour", "not permitted"),
        ({"majors": 5}, "/majors", "tuple"),
    ],
)
def test_a_broken_rule_is_named(wrong: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(wrong)
    assert caught.value.field == field and said in caught.value.detail
    assert {"field": field, "reason": caught.value.detail} in caught.value.extra["errors"]  # type: ignore[operator]


def test_a_sub_class_may_have_three_digits() -> None:
    found = checked(body(category("E01079"), category("E01999", extension=True))).categories
    assert [(c.sub, c.family) for c in found] == [("079", "E01"), ("999", "E01")]
    with pytest.raises(Invalid, match="the next free number is E01998"):
        checked(body(category("E01079"), category("E01999", extension=True), category("E01078", extension=True)))


def test_all_broken_rules_are_told_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        checked(body(category("E0101", conditions=[]), category("E0901"), category("E0102", conditions=[condition(limit="x")])))
    assert len(caught.value.extra["errors"]) == 3  # type: ignore[arg-type]


def test_a_local_major_numbers_as_it_likes() -> None:
    assert checked(body(category("E0701"), category("E0702", extension=True)))


def test_extensions_are_numbered_down_from_99() -> None:
    content = checked(body())
    assert next_extension(content.categories, "E01") == "E0198"
    assert next_extension(content.categories, "P03") == "P0399"
    assert next_extension(content.categories, "E01", digits=3) == "E01999"
    full = [Category.model_validate(category(f"E01{n:02d}")) for n in range(1, 100)]
    assert next_extension(full, "E01") is None
    with pytest.raises(Invalid, match="no number is free there"):
        checked(body(*(category(f"E01{n:02d}") for n in range(2, 100)), category("E0101", extension=True)))


def test_a_category_knows_its_family_and_its_conditions() -> None:
    edition = Edition("2026", checked(body(category("E0101", conditions=[condition(), condition("b", limit="4UH")]))))
    found = edition.category("E0101")
    assert (found.kind, found.major, found.sub, found.family, found.edition) == ("event", "01", "01", "E01", "2026")
    assert (found.default.limit, found.condition(None).code, found.condition("b").limit) == ("2WD", "1", "4UH")
    with pytest.raises(Invalid, match="E0101 has no filing condition c; it has: 1, b"):
        found.condition("c")
    with pytest.raises(Invalid, match="no category E0102 in the catalogue 2026"):
        edition.category("E0102")


def test_search_looks_into_both_names_and_the_code() -> None:
    edition = Edition("2024-12", checked(PACK["content"]))
    assert [c.code for c in edition.search("雨水")] == ["P0103", "P0104"]
    assert [c.code for c in edition.search(" STREET-light")] == ["P0106"]
    assert [c.code for c in edition.search("e050")] == [f"E050{n}" for n in range(1, 9)]
    assert edition.search("没有") == []


def test_an_addition_without_room_is_set_aside_whole() -> None:
    base = Edition("2026", checked(body()))
    additions = [Addition(added(code), TODAY) for code in ("E0198", "E0104", "E0199", "E0901")]
    both = joined(base, additions)
    assert (both.additions, both.set_aside) == (("E0198",), ("E0104", "E0199", "E0901"))
    assert both.category("E0198").edition == "2026" and both.own == base.content


def test_the_edition_of_the_nearest_node_holds_and_the_pack_s_under_it() -> None:
    content, day = checked(body()), date(2026, 5, 1)
    region = Edition("650000:1", content, date(2026, 1, 1), None, ROOT)
    county = Edition("650102:1", content, date(2026, 4, 1), date(2026, 6, 1), LEAF)
    stranger = Edition("654002:1", content, date(2026, 1, 1), None, "654002")
    known = Catalogues(Edition("2024-12", content), (county, region, stranger), path=(ROOT, MIDDLE, LEAF))
    assert [known.at(d).code for d in (date(2025, 12, 31), date(2026, 1, 1), date(2026, 3, 31), day, date(2026, 6, 1))] == [
        "2024-12", "650000:1", "650000:1", "650102:1", "650000:1",
    ]  # fmt: skip
    assert known.of("654002:1", day).code == "654002:1", "a case may still have been filed under it"
    with pytest.raises(NotFound):
        known.of("none", day)


# Editions in the database.


class At:
    """A county's catalogues in a database, at a moment that the test moves."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.day = engine, TODAY
        self.kept: Kept[Catalogues] = editions.catalogue_of({"edition": "base", "content": body()}, (ROOT, MIDDLE, LEAF))

    def do(self, work: Callable[[Tx], Any]) -> Any:
        noon = datetime(self.day.year, self.day.month, self.day.day, 12, tzinfo=ZONE)
        with writing(self.engine) as connection:
            return work(Tx(connection, LEAF, now=lambda: noon))

    def publish(self, code: str, start: date, end: date | None = None, content: Content | None = None) -> None:
        edition = Edition(code, content or checked(body()), start, end, LEAF)
        self.do(lambda tx: editions.publish(tx, self.kept, edition, ZONE))

    def add(self, category: Category, start: date) -> None:
        self.do(lambda tx: editions.add(tx, self.kept, category, start, "", ZONE))

    @property
    def known(self) -> Catalogues:
        with reading(self.engine) as connection:
            return self.kept.get(connection)


@pytest.fixture
def at(engine: Engine) -> At:
    return At(engine)


def days(count: int) -> date:
    return TODAY + timedelta(days=count)


def test_editions_of_a_node_follow_one_another(at: At) -> None:
    at.publish("650102:a", days(0))
    at.publish("650102:c", days(20), days(30))
    at.publish("650102:b", days(10))
    held = [at.known.at(days(n)).code for n in (-1, 0, 9, 10, 19, 20, 29, 30)]
    names = {"a": "650102:a", "b": "650102:b", "c": "650102:c", "-": "base"}
    assert held == [names[n] for n in "-aabbcc-"]
    with pytest.raises(Conflict, match="begins on the same day") as same:
        at.publish("650102:d", days(10))
    assert same.value.field == "/valid_from"
    with pytest.raises(Conflict, match="on the same days") as inside:
        at.publish("650102:d", days(25))
    assert inside.value.field == "/valid_from"
    with pytest.raises(Conflict, match="on the same days") as across:
        at.publish("650102:d", days(5), days(11))
    assert across.value.field == "/valid_to"


@pytest.mark.parametrize(
    ("code", "start", "end", "field"),
    [("2026", 0, None, "/code"), ("654002:2026", 0, None, "/code"), ("650102:a", 5, 5, "/valid_to")],
)
def test_an_edition_is_the_node_s_own_and_holds_for_a_time(at: At, code: str, start: int, end: int | None, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        at.publish(code, days(start), None if end is None else days(end))
    assert caught.value.field == field


def test_publishing_again_is_the_same_and_another_content_is_not(at: At) -> None:
    at.publish("650102:a", days(1))
    at.publish("650102:a", days(1))
    for other in ({"start": days(2)}, {"start": days(1), "content": checked(body(category("E0101")))}):
        with pytest.raises(Conflict, match="another edition 650102:a"):
            at.publish("650102:a", **other)  # type: ignore[arg-type]
    assert len(at.known.published) == 1


def test_an_edition_begins_in_the_past_only_while_nobody_reported(at: At) -> None:
    at.publish("650102:a", days(-3))
    row = {
        "id": "1", "number": "1", "version": 1, "state": "reported", "category": "E0101", "edition": "base", "channel": "hotline",
        "provenance": "live", "lon": 1.0, "lat": 1.0, "division": LEAF, "reported_at": "2026-02-28T16:00:00.000000Z",
        "changed_at": "2026-02-28T16:00:00.000000Z",
    }  # fmt: skip
    at.do(lambda tx: tx.execute(insert(cases).values(**row)))
    # In the node's zone that report was made on the first of March.
    with pytest.raises(Conflict, match="cases were reported since that day"):
        at.publish("650102:b", date(2026, 3, 1))
    at.publish("650102:b", TODAY)


def test_an_edition_is_withdrawn_before_it_begins(at: At) -> None:
    at.publish("650102:a", days(0))
    at.publish("650102:b", days(5))
    assert at.known.at(days(5)).code == "650102:b"
    at.do(lambda tx: editions.withdraw(tx, at.kept, "650102:b", ZONE))
    assert at.known.at(days(5)).code == "650102:a", "what it would have ended goes on"
    with pytest.raises(NotFound):
        at.do(lambda tx: editions.withdraw(tx, at.kept, "650102:b", ZONE))
    with pytest.raises(Conflict, match="give this one another code"):
        at.publish("650102:b", days(5))
    with pytest.raises(Conflict, match="is in force since"):
        at.do(lambda tx: editions.withdraw(tx, at.kept, "650102:a", ZONE))


def test_an_addition_holds_in_every_edition_from_its_day_on(at: At) -> None:
    at.publish("650102:a", days(10))
    at.add(added("E0198"), days(2))
    at.add(added("E0198", conditions=[condition(limit="4UH")]), days(12))
    found = [at.known.at(days(n)).categories.get("E0198") for n in (1, 2, 11, 12)]
    assert [f and f.default.limit for f in found] == [None, "2WD", "2WD", "4UH"]
    assert at.known.of("650102:a", days(2)).category("E0198").default.limit == "2WD"
    at.day = days(14)
    at.do(lambda tx: editions.end(tx, at.kept, "E0198", days(15), ZONE))
    assert [bool(at.known.at(days(n)).additions) for n in (14, 15)] == [True, False]


@pytest.mark.parametrize(
    ("category", "start", "field", "said"),
    [
        (added("E0103"), 0, "/category/code", "the next free number is E0198"),
        (added("E0199"), 0, "/category/code", "E0199 is there twice"),
        (added("E0198"), -1, "/valid_from", "today or later"),
        (added("E0198").model_copy(update={"extension": False}), 0, "/category/extension", "an extension"),
        (added("E0198", conditions=[condition(department="none")]), 0, "/category/department", "no department none"),
    ],
)
def test_an_addition_that_breaks_a_rule_is_refused(at: At, category: Category, start: int, field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        at.add(category, days(start))
    assert caught.value.field == field and said in caught.value.detail


def test_an_edition_leaves_room_for_the_additions(at: At) -> None:
    at.add(added("E0190"), days(0))
    taller = checked(body(category("E0195")))
    with pytest.raises(Conflict, match="the additions E0190 have no room"):
        at.publish("650102:a", days(5), content=taller)
    at.do(lambda tx: editions.end(tx, at.kept, "E0190", days(5), ZONE))
    at.publish("650102:a", days(5), content=taller)
    with pytest.raises(Invalid, match=r"in 650102:a: E0190 is an extension among"):
        at.add(added("E0190"), days(4))


def test_the_pack_s_edition_is_kept_for_its_cases_when_the_pack_moves_on(at: At) -> None:
    at.do(lambda tx: editions.remember(tx, at.kept))
    at.do(lambda tx: editions.remember(tx, at.kept))
    at.kept = editions.catalogue_of({"edition": "newer", "content": body(category("E0102"))}, (ROOT, MIDDLE, LEAF))
    assert at.known.at(TODAY).code == "newer" and "E0101" not in at.known.at(TODAY).categories
    assert at.known.of("base", TODAY).category("E0105").zh == "类E0105"
    changed = editions.catalogue_of({"edition": "base", "content": body(category("E0102"))}, (LEAF,))
    with pytest.raises(Conflict, match="give it another edition than base"):
        at.do(lambda tx: editions.remember(tx, changed))


def test_a_difference_names_every_field() -> None:
    old = checked(body(category("E0101", conditions=[condition(), condition("2")]), category("E0102")))
    questions = [{"key": "a", "kind": "yes_no", "zh": "问"}]
    new = checked(
        body(
            category("E0101", zh="新", conditions=[condition("2", limit="4UH"), condition("3")], questions=questions),
            category("E0103"), departments=[{"code": "roads", "zh": "路", "en": "Roads"}],
        )
    )  # fmt: skip
    found = difference(old, new)
    assert [(a.what, a.code) for a in found.added] == [("category", "E0103")]
    assert [(a.what, a.code) for a in found.removed] == [("department", "parks"), ("category", "E0102")]
    changes = {(c.code, c.field): (c.before, c.after) for c in found.changed}
    assert changes["E0101", "zh"] == ("类E0101", "新") and changes["roads", "en"] == ("", "Roads")
    assert changes["E0101", "conditions/2/limit"] == ("2WD", "4UH")
    assert changes["E0101", "conditions/1"][1] is None and changes["E0101", "conditions/3"][1]["limit"] == "2WD"
    assert changes["E0101", "questions/a"][0] is None and len(changes) == 6
    assert difference(old, old).empty and not found.empty


def test_another_order_of_conditions_is_a_difference() -> None:
    one, two = ([condition(), condition("2")], [condition("2"), condition()])
    found = difference(checked(body(category("E0101", conditions=one))), checked(body(category("E0101", conditions=two))))
    assert [(c.field, c.before, c.after) for c in found.changed] == [("conditions", ["1", "2"], ["2", "1"])]


# Over HTTP.


@contextmanager
def served(tmp_path: Path, engine: Engine) -> Iterator[Served]:
    with node(tmp_path, engine) as found:
        found.runtime.extra["around"].catalogue = editions.catalogue_of(PACK, found.runtime.node.path)
        yield found


def test_the_catalogue_is_published_and_searched(tmp_path: Path, engine: Engine) -> None:
    with served(tmp_path, engine) as at:
        answer = at.client.get(PREFIX)
        found = answer.json()
        assert found["edition"] == {"code": "2024-12", "node": None, "valid_from": None, "valid_to": None, "note": PACK["note"]}
        assert len(found["categories"]) == 133 and len(found["departments"]) == 27
        road = next(c for c in found["categories"] if c["code"] == "E0113")
        assert [c["limit"] for c in road["conditions"]] == ["5WD"] * 3 and len(road["questions"]) == 2
        again = at.client.get(PREFIX, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
        hits = at.client.get(PREFIX, params={"search": "雨水"}).json()["categories"]
        assert [c["code"] for c in hits] == ["P0103", "P0104"]
        refused(at.client.get(PREFIX, params={"colour": "red"}), 422, "/colour")
        refused(at.client.get(PREFIX, params={"day": "20260302"}), 422, "/day")


def test_an_edition_goes_the_whole_way_over_http(tmp_path: Path, engine: Engine) -> None:
    tomorrow = (datetime.now(ZONE).date() + timedelta(days=1)).isoformat()
    with served(tmp_path, engine) as at:
        admin = at.as_("administrator")
        content = checked(PACK["content"]).model_dump(mode="json")
        content["categories"][0]["conditions"][0]["limit"] = "3WD"
        wanted = {"code": f"{LEAF}:2", "valid_from": tomorrow, "content": content}
        refused(at.client.post(f"{PREFIX}/editions", json=wanted, headers=at.as_("dispatcher")), 403)
        dry = at.client.post(f"{PREFIX}/editions", json=wanted, headers=admin).json()
        assert (dry["published"], dry["against"]) == (False, "2024-12")
        assert [(c["field"], c["before"], c["after"]) for c in dry["difference"]["changed"]] == [
            ("conditions/1/limit", "2UD", "3WD")
        ]
        known = at.client.get(f"{PREFIX}/editions", headers=admin).json()
        assert [e["code"] for e in known["editions"]] == ["2024-12"] and known["free"]["E01"] == "E0199"
        assert at.client.post(f"{PREFIX}/editions", json=wanted | {"dry_run": False}, headers=admin).json()["published"]
        day = {"day": tomorrow}
        assert at.client.get(PREFIX, params=day).json()["edition"]["code"] == f"{LEAF}:2"
        assert at.client.get(PREFIX).json()["edition"]["code"] == "2024-12"
        found = at.client.get(f"{PREFIX}/difference", params={"to": f"{LEAF}:2"}, headers=admin).json()
        assert found == dry["difference"]
        refused(at.client.get(f"{PREFIX}/difference", params={"from": "none"}, headers=admin), 404, "/from")
        broken = wanted | {"content": content | {"departments": []}}
        told = refused(at.client.post(f"{PREFIX}/editions", json=broken, headers=admin), 422)
        assert told["field"].startswith("/categories/") and len(told["errors"]) == 200
        assert at.client.post(f"{PREFIX}/editions/withdraw", json={"code": f"{LEAF}:2"}, headers=admin).json() == {"done": True}
        assert at.client.get(PREFIX, params=day).json()["edition"]["code"] == "2024-12"
        refused(at.client.post(f"{PREFIX}/editions/withdraw", json={"code": f"{LEAF}:2"}, headers=admin), 404, "/code")


def test_an_addition_goes_the_whole_way_over_http(tmp_path: Path, engine: Engine) -> None:
    today = datetime.now(ZONE).date().isoformat()
    with served(tmp_path, engine) as at:
        admin = at.as_("administrator")
        new = category("E0127", extension=True, conditions=[condition(department="parks")])
        given = {"category": new, "valid_from": today}
        told = refused(at.client.post(f"{PREFIX}/additions", json=given, headers=admin), 422, "/category/code")
        assert told["detail"].endswith("the next free number is E0199")
        new["code"] = "E0199"
        done = at.client.post(f"{PREFIX}/additions", json=given, headers=admin)
        assert done.status_code == 201, done.text
        found = at.client.get(PREFIX).json()
        assert found["additions"] == ["E0199"] and any(c["code"] == "E0199" for c in found["categories"])
        known = at.client.get(f"{PREFIX}/editions", headers=admin).json()
        assert known["free"]["E01"] == "E0198" and known["additions"][0]["valid_from"] == today
        ended = at.client.post(f"{PREFIX}/additions/end", json={"category": "E0199", "valid_to": today}, headers=admin)
        assert ended.status_code == 200 and at.client.get(PREFIX).json()["additions"] == []
        refused(at.client.post(f"{PREFIX}/additions/end", json={"category": "E0198", "valid_to": today}, headers=admin), 404)
