"""Routing on both databases and over real HTTP: who gets a case and why, broken rules, returns, rehearsal of past cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, event, insert, update

from services.case import rulebook
from services.case.calendar import calendar_of
from services.case.catalogue import Catalogues, Edition
from services.case.editions import add, catalogue_of, publish
from services.case.entries import checked
from services.case.intake import Spot
from services.case.policy import Policy, kept
from services.case.rehearsal import Past, rehearse
from services.case.routing import Routed, examine, route
from services.case.rules import RoutingRule
from services.case.rulesets import RuleSets
from services.case.tables import cases
from services.case.worktime import WorkCalendar
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx, reading
from shared.errors import Conflict, Invalid, NotFound
from shared.kept import Kept
from tests.case.test_rules import CONTENT, PARTS, Lamp, rule
from tests.served import Served, node, refused

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
WHO = Caller("office", frozenset({"administrator"}))
ANY: dict[str, Any] = {"kind": "all", "of": []}


@dataclass
class Around:
    """A node 99 with two divisions, two parts and the catalogue of the tests of the language."""

    zone: ZoneInfo = ZONE
    calendar: Kept[WorkCalendar] = field(default_factory=lambda: calendar_of(ZONE, "cn"))
    catalogue: Kept[Catalogues] = field(default_factory=lambda: catalogue_of({"edition": "test", "content": CONTENT}, ("99",)))
    policy: Kept[Policy] = field(default_factory=kept)
    routes: Kept[RuleSets] = field(default_factory=rulebook.routes)

    def locate(self, lon: float, lat: float) -> Spot:
        raise Invalid("nothing is placed here", field="/lon")

    def centre(self, cell: str) -> tuple[float, float]:
        if cell != "9902001":
            raise Invalid("no such cell", field="/cell")
        return 1.0, 1.0

    def part(self, code: str) -> Lamp | None:
        return PARTS.get(code)

    def chain(self, division: str) -> tuple[str, ...]:
        return (division, "99") if division.startswith("99") and division != "99" else (division,)


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A case as its table has it."""
    at = changes.pop("at", NOW)
    made = dict.fromkeys(c.name for c in cases.columns if c.server_default is None)
    return made | {
        "id": f"case-{number:05}", "number": f"99-{number:05}", "version": 1, "state": "filed",
        "category": "E0101", "edition": "test", "channel": "public", "provenance": "live", "lon": 1.0, "lat": 1.0,
        "division": "9902", "cell": "9902001",
        "reported_at": stamp(at - timedelta(minutes=5)), "filed_at": stamp(at), "changed_at": stamp(at),
    } | changes  # fmt: skip


@dataclass
class Office:
    """The rules of one node on one database."""

    engine: Engine
    around: Around = field(default_factory=Around)
    at: datetime = NOW

    def tx(self, connection: Connection) -> Tx:
        return Tx(connection, "99", now=lambda: self.at)

    def save(self, *rules: RoutingRule, seen: int | None = None, **more: Any) -> int:
        with self.engine.begin() as c:
            last = rulebook.last(c) if seen is None else seen
            return rulebook.change(self.tx(c), self.around, rules, last, WHO, **more)

    def route(self, **changes: Any) -> Routed:
        with reading(self.engine) as c:
            return route(c, self.around, row(**changes), self.at)

    def fill(self, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as c:
            c.execute(insert(cases), list(rows))


@pytest.fixture
def office(engine: Engine) -> Office:
    return Office(engine)


LAMPS = rule("lamps", {"kind": "all", "of": [{"kind": "category", "among": ["E01"]}, {"kind": "owner", "among": ["lamps"]}]},
             automatic=True, then={"department": "lamps", "helping": ["part.maintainer", "parks"]})  # fmt: skip


def test_the_first_match_decides_and_says_why(office: Office) -> None:
    office.save(LAMPS, rule("rest", ANY, "parks"))
    found = office.route(part="A")
    assert (found.department, found.helping, found.rule) == ("lamps", ("roads", "parks"), "lamps")
    assert (found.automatic, found.edition) == (True, 1)
    assert found.why["en"] == (
        "rule lamps “lamps” of edition 1: category E0101 is in E01, the part's owner is lamps → Lamps (lamps)."
    )
    assert "类别 E0101 属于 E01，部件权属单位为 lamps" in found.why["zh"] and found.tree and found.tree["result"] == "true"
    assert found.record()["rule"] == "lamps" and found.broken is None
    assert office.route().rule == "rest", "without a part the first does not match"


def test_without_rules_the_filing_condition_decides(office: Office) -> None:
    found = office.route()
    assert (found.department, found.helping, found.rule, found.automatic) == ("roads", ("parks",), None, False)
    assert found.why["en"] == "no rule matches; by the filing condition: Roads (roads)."
    gone = office.route(category="E0777")
    assert gone.department is None and gone.broken is None and "a dispatcher decides" in gone.why["en"]


def test_responsibility_follows_the_part(office: Office) -> None:
    office.save(rule("owner", ANY, "part.owner"), rule("maintainer", ANY, "part.maintainer"), rule("area", ANY, "parks"))
    assert [office.route(part=p).department for p in ("A", "B", None)] == ["lamps", "water", "parks"]
    assert office.route().why["en"].startswith(
        "rule owner matches, but the part's owner is not known; rule maintainer matches, but the part's maintainer is not known;"
        " rule area"
    )


def test_who_gave_it_back_is_passed_over_and_named(office: Office) -> None:
    office.save(LAMPS, rule("again", {"kind": "channel", "among": ["public"]}, "water", automatic=True))
    found = office.route(part="A", returned_by=["lamps"])
    assert (found.department, found.rule, found.automatic) == ("water", "again", False), "what came back goes to a person"
    assert found.why["en"].startswith("Lamps (lamps) gave it back; rule again")
    assert "next suggestion: Water (water)" in found.why["en"]
    assert found.why["zh"].startswith("lamps所（lamps）已退回；") and "下一个建议：" in found.why["zh"]
    assert office.route(part="A", returned_by=["lamps", "water"]).department == "roads", "the filing condition's"
    assert office.route(part="A", returned_by=["lamps", "roads", "water"]).department == "parks", "who helps by the condition"
    nobody = office.route(part="A", returned_by=["lamps", "parks", "roads", "water"])
    assert nobody.department is None and nobody.why["en"].count("gave it back") == 4


def test_only_rules_in_force_are_asked(office: Office) -> None:
    office.save(
        rule("off", ANY, "lamps", enabled=False), rule("past", ANY, "lamps", valid_to="2026-03-02"),
        rule("coming", ANY, "lamps", valid_from="2026-03-03"), rule("now", ANY, "water", valid_from="2026-03-02"),
    )  # fmt: skip
    assert office.route().rule == "now"
    office.at += timedelta(days=1)
    assert office.route().rule == "coming"


def test_the_time_is_that_of_the_node(office: Office) -> None:
    office.save(rule("night", {"kind": "time", "begin": "22:00", "end": "06:00"}, "water"))
    office.at = datetime(2026, 3, 2, 14, tzinfo=UTC)
    assert office.route(at=office.at).rule == "night", "14:00 UTC is 22:00 there"
    office.at = datetime(2026, 3, 2, 22, tzinfo=UTC)
    assert office.route(at=office.at).rule is None


def test_repetition_is_counted(office: Office) -> None:
    long_ago = NOW - timedelta(days=31)
    office.fill(
        row(2, category="E0102"), row(3, at=NOW - timedelta(days=29)), row(4, at=long_ago), row(5, category="E0201"),
        row(6, state="refused"), row(7, cell="9902002", lon=1.0003, part="A"), row(8, at=NOW + timedelta(minutes=1)),
        row(9, cell="9902002", lon=1.0006), row(10, cell="9902002", lon=1.0004, lat=1.0004), row(1),
    )  # fmt: skip
    counts = {}
    for place in ("cell", "part", "near"):
        for n in (1, 2, 3, 4):
            office.save(rule("r", {"kind": "repeated", "at_least": n, "days": 30, "place": place}, "water"))
            counts[place] = n if office.route(part="A").rule else counts.get(place, 0)
    # In the cell the two of the family in time, not the case itself; near by also the one 33 m away, not those at 63 and 67 m.
    assert counts == {"cell": 2, "part": 1, "near": 3}
    office.save(rule("r", {"kind": "not", "of": {"kind": "repeated", "at_least": 9, "days": 30}}, "water"))
    assert office.route(cell=None).rule is None, "a case without a cell is neither repeated nor not"


def test_a_set_that_does_not_fit_is_refused_with_all_its_faults(office: Office) -> None:
    wrong = (rule("a", {"kind": "area", "among": ["98"]}, "ghosts"), rule("a", {"kind": "category", "among": ["E0999"]}))
    with pytest.raises(Invalid) as refused_:
        office.save(*wrong)
    found = [e["field"] for e in refused_.value.extra["errors"]]  # type: ignore[index, attr-defined]
    assert found == ["/rules/0/then/department", "/rules/0/when/among/0", "/rules/1/id", "/rules/1/when/among/0"]
    assert refused_.value.field == found[0]
    with pytest.raises(Invalid):
        office.save(valid_from="2026-03-01")
    with reading(office.engine) as c:
        assert rulebook.last(c) == 0


def test_two_who_change_the_rules_get_one_conflict(office: Office) -> None:
    assert office.save(LAMPS, seen=0) == 1
    with pytest.raises(Conflict) as refused_:
        office.save(rule("other", ANY), seen=0)
    assert refused_.value.field == "/edition" and refused_.value.extra["edition"] == 1
    assert office.route(part="A").rule == "lamps"
    assert office.save(rule("other", ANY), seen=1, note="why not") == 2
    with reading(office.engine) as c:
        assert [(e["edition"], e["note"]) for e in rulebook.editions(c, None, 9)] == [(2, "why not"), (1, "")]
        assert [e["edition"] for e in rulebook.editions(c, 2, 9)] == [1]
        assert [r.id for r in rulebook.edition(c, 1).rules] == ["lamps"]
        with pytest.raises(NotFound):
            rulebook.edition(c, 3)


def test_a_set_may_begin_later(office: Office) -> None:
    office.save(rule("now", ANY, "water"))
    office.save(rule("later", ANY, "parks"), valid_from="2026-03-04")
    assert office.route().rule == "now"
    office.at += timedelta(days=2)
    assert office.route().rule == "later"
    office.at -= timedelta(days=2)
    office.save(rule("instead", ANY, "parks"))
    office.at += timedelta(days=2)
    assert office.route().rule == "instead", "what is saved last holds from its first day on"


def test_no_more_sets_wait_than_are_looked_at(office: Office) -> None:
    office.save(rule("now", ANY, "water"))
    for n in range(20):
        office.save(rule(f"r{n}", ANY, "parks"), valid_from=f"2026-04-{n + 1:02}")
    with pytest.raises(Conflict) as refused_:
        office.save(rule("r20", ANY, "parks"), valid_from="2026-04-21")
    assert refused_.value.field == "/valid_from"
    assert office.route().rule == "now"
    office.at = datetime(2026, 4, 5, tzinfo=UTC)
    assert office.route().rule == "r4"
    office.save(rule("instead", ANY, "water"))
    assert office.route().rule == "instead"


def test_the_packs_rules_hold_until_one_is_saved(engine: Engine) -> None:
    office = Office(engine, Around(routes=rulebook.routes([rule("shipped", ANY, "water")])))
    assert (office.route().rule, office.route().edition) == ("shipped", 0)
    office.save()
    assert (office.route().rule, office.route().edition) == (None, 1), "an empty set is a set"


def republish(office: Office, content: dict[str, Any]) -> None:
    """Put another catalogue in force from today on."""
    edition = Edition("99:2", checked(content), office.at.astimezone(ZONE).date(), node="99")
    with office.engine.begin() as c:
        publish(office.tx(c), office.around.catalogue, edition, ZONE)


def without(*, department: str = "", question: str = "") -> dict[str, Any]:
    categories = [{**c, "questions": [q for q in c["questions"] if q["key"] != question]} for c in CONTENT["categories"]]  # type: ignore[attr-defined]
    return CONTENT | {"departments": [d for d in CONTENT["departments"] if d["code"] != department], "categories": categories}  # type: ignore[index]


def test_a_rule_that_broke_since_leaves_the_case_to_a_person_and_is_counted(office: Office) -> None:
    deep = {"kind": "answer", "key": "depth", "op": "ge", "value": 10}
    office.save(rule("elsewhere", {"kind": "all", "of": [{"kind": "category", "among": ["P01"]}, ANY]}, "water"),
                rule("deep", {"kind": "all", "of": [{"kind": "category", "among": ["E0101"]}, deep]}, "water", automatic=True),
                rule("rest", ANY, "parks"))  # fmt: skip
    assert office.route(answers={"depth": 20}).rule == "deep"
    republish(office, without(question="depth", department="water"))
    found = office.route(answers={"depth": 20})
    assert (found.department, found.automatic, found.rule) == (None, False, "deep"), "not passed over in silence"
    assert found.broken and found.broken["rule"] == "deep" and "asks for depth no more" in found.broken["en"]
    assert "a dispatcher decides" in found.why["en"] and "由派遣员决定" in found.why["zh"]
    assert office.route(category="E0201").rule == "rest", "a case that the rule cannot concern is routed as before"
    lost = office.route(category="P0101")
    assert lost.department is None and lost.broken and "the department water is not in the catalogue" in lost.broken["en"]
    with office.engine.begin() as c:
        for _ in range(2):
            rulebook.decide(office.tx(c), office.around, row(), office.at)
        assert rulebook.decide(office.tx(c), office.around, row(category="E0201"), office.at).rule == "rest"
        assert [(t["rule"], t["cases"]) for t in rulebook.counted(c, 1)] == [("deep", 2)]
        unfit = {f.field for f in rulebook.unfit(c, office.around, "99", office.at)}
    assert unfit == {"/rules/0/then/department", "/rules/1/then/department", "/rules/1/when/of/1/key"}


def test_suggestions_end_where_a_rule_cannot_be_judged(office: Office) -> None:
    office.save(rule("a", ANY, "parks"), rule("b", {"kind": "answer", "key": "depth", "op": "ge", "value": 1}, "lamps"),
                rule("c", ANY, "water"))  # fmt: skip
    case = row(rule=None, answers={"depth": 3})
    with reading(office.engine) as c:
        said = examine(c, office.around, case, NOW)
    assert [s["department"] for s in said["suggestions"]] == ["parks", "lamps", "water", "roads"]
    republish(office, without(question="depth"))
    with reading(office.engine) as c:
        said = examine(c, office.around, case, NOW)
    assert [s["department"] for s in said["suggestions"]] == ["parks"]
    assert [r["result"] for r in said["rules"]] == ["true", "broken", "true"]


def test_a_part_whose_owner_is_no_department_is_broken(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "C", Lamp("nobody", "lamps"))
    office.save(rule("owner", ANY, "part.owner"), rule("rest", ANY, "parks"))
    found = office.route(part="C")
    assert found.department is None and found.broken and found.broken["en"] == (
        "the part's owner nobody is not in the catalogue in force")  # fmt: skip


def test_a_stored_set_that_cannot_be_read_is_said_at_every_case(office: Office) -> None:
    office.save(rule("fine", ANY, "parks"))
    with office.engine.begin() as c:
        c.execute(update(rulebook.rule_sets).values(body=[{"id": "from another release"}]))
        office.around.routes.changed(c)
    found = office.route()
    assert found.department is None and found.broken and "not readable as rules" in found.broken["en"]
    with reading(office.engine) as c:
        assert [f.field for f in rulebook.unfit(c, office.around, "99", office.at)] == ["/rules"]
        assert examine(c, office.around, row(rule=None), office.at)["suggestions"] == []


def test_a_category_of_ones_own_can_be_routed(office: Office) -> None:
    """What the place adds to the catalogue makes a new edition each day, for which the rules are made ready anew."""
    own = next(c for c in checked(CONTENT).categories if c.code == "E0101").model_copy(
        update={"code": "E0199", "extension": True, "questions": ()}
    )
    with office.engine.begin() as c:
        add(office.tx(c), office.around.catalogue, own, office.at.date(), "", ZONE)
    office.save(rule("own", {"kind": "category", "among": ["E0199"]}, "water"))
    for _ in range(20):
        assert office.route(category="E0199", at=office.at).rule == "own"
        office.at += timedelta(days=1)


# Rehearsal.

RECORD = 360


def past(office: Office) -> list[dict[str, Any]]:
    """A record of cases: every third with a part, every fifth of another family, handled by turns."""
    made = []
    for n in range(RECORD):
        handled = n % 4 != 0
        made.append(
            row(n, at=NOW - timedelta(hours=6 * n), category="E0201" if n % 5 == 0 else "E0101", part="A" if n % 3 == 0 else None,
                answers={"depth": n % 20} if n % 5 else None, department=("lamps" if n % 2 else "roads"),
                handled_at=stamp(NOW) if handled else None, returned_by=["lamps"] if n % 7 == 0 else None)
        )  # fmt: skip
    office.fill(*made, row(9001, filed_at=None, state="reported"))
    return made


def test_a_rehearsal_is_what_a_recount_says(office: Office) -> None:
    made = past(office)
    office.save(rule("owned", {"kind": "known", "what": "owner"}, "part.owner", automatic=True))
    deep = {"kind": "answer", "key": "depth", "op": "ge", "value": 10}
    candidate = [
        rule("deep", deep, "water"), rule("parks", {"kind": "category", "among": ["E02"]}, "parks"),
        rule("never", {"kind": "channel", "among": ["order"]}),
    ]  # fmt: skip
    with reading(office.engine) as c:
        found = rehearse(c, office.around, candidate, Past(days=60), NOW)

    def old(r: dict[str, Any]) -> tuple[str, bool]:
        return ("lamps", True) if r["part"] else ("roads", False)

    def new(r: dict[str, Any]) -> tuple[str, bool]:
        if (r["answers"] or {}).get("depth", 0) >= 10:
            return "water", False
        return ("parks" if r["category"] == "E0201" else "roads"), False

    looked = [r for r in made if r["reported_at"] >= stamp(NOW - timedelta(days=60))]
    assert 200 < len(looked) < RECORD and found["looked"] == len(looked) and found["complete"] is True
    changed = Counter((old(r), new(r)) for r in looked if old(r) != new(r))
    told: Counter[Any] = Counter()
    for change in found["changes"]:
        before, after = ((side["department"], side["automatic"]) for side in (change["before"], change["after"]))
        told[before, after] += change["cases"]
    assert told == changed
    numbers = {r["number"] for r in looked}
    assert all(1 <= len(c["examples"]) <= 5 and {e["number"] for e in c["examples"]} <= numbers for c in found["changes"])
    assert found["same"] + found["differ"] == len(looked)
    handled = [r for r in looked if r["handled_at"]]
    assert found["handled"] == len(handled)
    assert found["present"]["as_handled"] == sum(old(r)[0] == r["department"] for r in handled)
    assert found["candidate"]["as_handled"] == sum(new(r)[0] == r["department"] for r in handled)
    assert found["present"]["automatic"] == sum(old(r)[1] for r in looked) and found["candidate"]["automatic"] == 0
    by_rule = {r["rule"]: r["cases"] for r in found["candidate"]["rules"]}
    went = Counter(new(r)[0] for r in looked)
    assert by_rule == {"deep": went["water"], "parks": went["parks"], "never": 0}
    assert found["unmatched"]["cases"] == found["candidate"]["condition"] == went["roads"]
    assert found["broken"] == [] and found["present"]["edition"] == 1


def test_a_rehearsal_reads_no_more_than_it_was_asked(office: Office) -> None:
    made = past(office)
    with reading(office.engine) as c:
        few = rehearse(c, office.around, [rule("all", ANY, "water")], Past(days=3660, limit=37), NOW)
        one = rehearse(c, office.around, [rule("all", ANY, "water")], Past(days=3660, category="E02"), NOW)
        all_ = rehearse(c, office.around, [], Past(days=3660), NOW)
        short = rehearse(c, office.around, [rule("all", ANY, "water")], Past(days=3660), NOW, seconds=0)
    assert few["looked"] == few["differ"] == 37 and few["changes"][0]["examples"][0]["number"] == made[0]["number"]
    assert one["looked"] == sum(r["category"] == "E0201" for r in made)
    assert all_["looked"] == all_["same"] == RECORD and all_["changes"] == []
    assert short["complete"] is False and short["looked"] == 0


def test_a_rehearsal_goes_by_whole_chunks_without_losing_any(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.case.rehearsal.CHUNK", 7)
    office.fill(*(row(n, at=NOW - timedelta(hours=n // 10)) for n in range(100)))
    with reading(office.engine) as c:
        assert rehearse(c, office.around, [], Past(), NOW)["looked"] == 100


def test_a_rehearsal_stops_in_time(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("services.case.rehearsal.monotonic", lambda: next(ticks))
    past(office)
    with reading(office.engine) as c:
        found = rehearse(c, office.around, [], Past(days=3660), NOW, seconds=25)
    assert found["complete"] is False and found["looked"] == 25


def test_a_rehearsal_tells_what_it_cannot_judge(office: Office) -> None:
    office.fill(row(1, at=NOW), row(2, at=datetime(2002, 3, 2, tzinfo=UTC), changed_at=stamp(NOW)))
    with reading(office.engine) as c:
        found = rehearse(c, office.around, [rule("working", {"kind": "working"}, "water")], Past(days=9999), NOW)
    assert [(b["rule"], b["cases"]) for b in found["broken"]] == [("working", 1)] and "2002" in found["broken"][0]["en"]
    sides = {(c["after"]["department"], c["after"]["broken"]) for c in found["changes"]}
    assert found["candidate"]["broken"] == 1 and sides == {("water", False), (None, True)}


def test_routing_costs_a_known_number_of_look_ups(office: Office) -> None:
    """On the way of every filing: the versions of rules and catalogue, and nothing else unless a rule asks for it."""
    both = {"kind": "all", "of": [{"kind": "category", "among": ["E0101"]}, {"kind": "area", "among": ["9901"]}]}
    office.save(*(rule(f"r{n}", both) for n in range(100)))
    assert office.route().rule is None
    seen: list[str] = []
    event.listen(office.engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    assert office.route().rule is None
    asked = [s for s in seen if "SELECT" in s.upper()]
    assert len(asked) == 2 and all("kept_versions" in s for s in asked)


# Over HTTP.

PATH = "/api/case/v1/routing"


@pytest.fixture
def served(tmp_path: Path, engine: Engine) -> Iterator[Served]:
    everybody = ("administrator", "dispatcher", "acceptor", "collector", "shift_supervisor", "department")
    with node(tmp_path, engine) as found:
        found.client.headers.update(found.as_(*everybody))
        yield found


def body(*rules: dict[str, Any], edition: int = 0, **more: Any) -> dict[str, Any]:
    return {"edition": edition, "rules": list(rules)} | more


def one(name: str, when: dict[str, Any], department: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "zh": name, "en": name, "when": when, "then": {"department": department}} | more


def test_the_packs_own_rules_fit_its_catalogue(served: Served) -> None:
    found = served.client.get(PATH).json()
    assert found["edition"] == found["last"] == 0 and len(found["rules"]) >= 3
    assert found["faults"] == found["warnings"] == found["troubles"] == [] and found["fault"] is None
    assert not any(r["automatic"] for r in found["rules"]), "a demonstration only suggests"


def test_rules_over_http(served: Served) -> None:
    client = served.client
    saved = client.put(PATH, json=body(one("all", ANY, "parks"), one("rest", ANY, "river"), note="one for all"))
    assert saved.status_code == 200, saved.text
    assert (saved.json()["edition"], saved.json()["valid_from"] is None) == (1, False)
    assert [w["field"] for w in saved.json()["warnings"]] == ["/rules/1"]
    stale = client.put(PATH, json=body(one("all", ANY, "parks")))
    assert refused(stale, 409, "/edition")["edition"] == 1
    assert client.put(PATH, json=body(edition=1)).json()["edition"] == 2
    page = client.get(f"{PATH}/editions", params={"limit": 1}).json()
    assert [i["edition"] for i in page["items"]] == [2] and page["next"] == 2
    rest = client.get(f"{PATH}/editions", params={"before": 2}).json()
    assert [(i["edition"], i["note"]) for i in rest["items"]] == [(1, "one for all")] and rest["next"] is None
    assert [r["id"] for r in client.get(PATH, params={"edition": 1}).json()["rules"]] == ["all", "rest"]
    refused(client.get(PATH, params={"edition": 9}), 404, "/edition")
    refused(client.get(PATH, params={"page": 9}), 422, "/page")
    entries = client.get("/api/case/v1/audit", params={"kind": "rules"}).json()["items"]
    assert [e["subject"] for e in entries] == ["2", "1"]


DEEP = {"kind": "all", "of": [{"kind": "not", "of": {"kind": "category", "among": ["E0113", 5]}}]}
SHAPES: list[tuple[dict[str, Any], str]] = [
    (one("a", DEEP, "parks"), "/rules/0/when/of/0/of/among/1"),
    (one("a", {"kind": "all", "of": [{"kind": "eval", "code": "1"}]}, "parks"), "/rules/0/when/of/0"),
    (one("a", {"kind": "any", "of": [{"kind": "repeated", "days": 3}]}, "parks"), "/rules/0/when/of/0/at_least"),
    (one("a", {"kind": "time", "begin": "25:00", "end": "06:00"}, "parks"), "/rules/0/when/begin"),
    (one("a", {"kind": "channel", "among": ["public"], "x": 1}, "parks"), "/rules/0/when/x"),
    (one("a", ANY, "parks", valid_from="2026-02-30"), "/rules/0/valid_from"),
    (one("a b", ANY, "parks"), "/rules/0/id"), (one("a", ANY, "parks", then={}), "/rules/0/then/department"),
    (one("a", {"kind": "answer", "key": "depth", "op": "ge", "value": None}, "parks"), "/rules/0/when/value"),
    (one("a", {"kind": "category", "among": ["E0113", "E0000"]}, "parks"), "/rules/0/when/among/1"),
    (one("a", {"kind": "area", "among": ["650103"]}, "parks"), "/rules/0/when/among/0"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "pointer"), SHAPES, ids=[p + str(n) for n, (_, p) in enumerate(SHAPES)])
def test_a_wrong_rule_is_refused_with_its_place(served: Served, wrong: dict[str, Any], pointer: str) -> None:
    refused(served.client.put(PATH, json=body(wrong)), 422, pointer)
    refused(served.client.post(f"{PATH}/rehearsal", json={"rules": [wrong]}), 422, pointer)
    assert served.client.get(PATH).json()["last"] == 0


def test_a_body_nested_without_end_is_refused(served: Served) -> None:
    for depth in (50, 300, 3000):
        text = '{"kind":"not","of":' * depth + '{"kind":"channel","among":["public"]}' + "}" * depth
        rules = f'{{"edition":0,"rules":[{{"id":"a","zh":"a","en":"a","when":{text},"then":{{"department":"parks"}}}}]}}'
        refused(served.client.put(PATH, content=rules, headers={"Content-Type": "application/json"}), 422)


def test_a_check_tells_everything_and_saves_nothing(served: Served) -> None:
    wrong = [one("a", {"kind": "owner", "among": ["ghosts"]}, "nobody"), one("a", {"kind": "cell", "among": ["1"]}, "parks")]
    found = served.client.post(f"{PATH}/check", json={"rules": wrong}).json()
    assert [f["field"] for f in found["faults"]] == [
        "/rules/0/then/department", "/rules/0/when/among/0", "/rules/1/id", "/rules/1/when/among/0",
    ]  # fmt: skip
    fine = served.client.post(f"{PATH}/check", json={"rules": [one("a", ANY, "parks"), one("b", ANY, "river")]}).json()
    assert fine["faults"] == [] and [w["field"] for w in fine["warnings"]] == ["/rules/1"]
    assert served.client.get(PATH).json()["last"] == 0


@pytest.mark.parametrize(
    ("method", "path", "roles"),
    [("GET", PATH, ("collector",)), ("PUT", PATH, ("dispatcher",)), ("POST", f"{PATH}/check", ("collector",)),
     ("POST", f"{PATH}/rehearsal", ("leader",)), ("GET", f"{PATH}/editions", ()), ("GET", PATH, ("integrator",))],
)  # fmt: skip
def test_who_may(served: Served, method: str, path: str, roles: tuple[str, ...]) -> None:
    answer = served.client.request(method, path, json={"rules": []} if method != "GET" else None, headers=served.as_(*roles))
    assert answer.status_code == (200 if (method, path, roles) == ("GET", PATH, ("collector",)) else 403), answer.text


def test_a_case_that_was_given_back(served: Served) -> None:
    client = served.client
    client.put(PATH, json=body(one("first", {"kind": "category", "among": ["E0113"]}, "parks"), one("then", ANY, "river")))
    case = client.post("/api/case/v1/cases", json={"category": "E0113", "lon": 87.62, "lat": 43.72}).json()

    def act(action: str, **given: Any) -> None:
        nonlocal case
        what = {"action": action, "version": case["version"], **given}
        done = client.post(f"/api/case/v1/cases/{case['id']}/actions", json=what)
        assert done.status_code == 200, done.text
        case = done.json()

    act("accept")
    act("file", condition="1")
    path = f"/api/case/v1/cases/{case['id']}/routing"
    before = client.get(path).json()
    assert (before["now"]["department"], before["now"]["rule"], before["returned"]) == ("parks", "first", [])
    assert [s["department"] for s in before["suggestions"]] == ["parks", "river", "municipal-works"]
    assert [(r["rule"], r["result"]) for r in before["rules"]] == [("first", "true"), ("then", "true")]
    act("dispatch", department="parks")
    act("ask_return", opinion="not a green area")
    act("grant")
    after = client.get(path).json()
    assert (after["now"]["department"], after["now"]["rule"]) == ("river", "then")
    assert after["returned"][0]["department"] == "parks" and after["returned"][0]["opinion"] == "not a green area"
    assert after["now"]["why"]["en"].startswith("Parks and greening unit (parks) gave it back; rule then")
    assert [s["department"] for s in after["suggestions"]] == ["river", "municipal-works", "subdistrict"]
    rehearsed = client.post(f"{PATH}/rehearsal", json={"rules": [one("all", ANY, "river")], "days": 3}).json()
    assert rehearsed["looked"] == 1 and rehearsed["changes"][0]["examples"] == [{"id": case["id"], "number": case["number"]}]
    refused(client.get("/api/case/v1/cases/nobody/routing"), 404, "/case")
    refused(client.get(path, headers=served.as_("integrator")), 403)


def test_the_measures_tell_of_rules_in_trouble(served: Served) -> None:
    text = served.client.get("/metrics").text
    assert 'sanji_rules_unfit{rules="routing"} 0.0' in text
    around = served.runtime.extra["around"]
    with served.runtime.engine.begin() as c:
        unread = {"edition": 1, "body": [{"id": "?"}], "valid_from": "2026-01-01", "changed_at": stamp(NOW)}
        c.execute(insert(rulebook.rule_sets), unread | {"changed_by": "x", "note": ""})
        around.routes.changed(c)
        tx = Tx(c, served.runtime.node.code)
        rulebook.decide(tx, around, row(category="E0113", division="650102", cell=None), NOW)
    text = served.client.get("/metrics").text
    assert 'sanji_rules_unfit{rules="routing"} 1.0' in text and 'sanji_rules_broken{rule="-"} 1.0' in text
    shown = served.client.get(PATH).json()
    assert shown["rules"] == [] and "not readable" in shown["fault"] and shown["troubles"][0]["cases"] == 1
    assert served.client.put(PATH, json=body(one("mended", ANY, "parks"), edition=1)).json()["fault"] is None
