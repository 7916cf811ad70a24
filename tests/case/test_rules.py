"""The language of routing rules: truth tables, every comparison, and random rules against a slow and obviously right judge."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.case.catalogue import Edition
from services.case.comparisons import Broken, Judge, Outcome, Subject
from services.case.entries import checked
from services.case.questions import Question
from services.case.rules import (
    Answer,
    Condition,
    RoutingRule,
    compiled,
    conjunction,
    explained,
    given_category,
    negation,
    reasons,
)
from services.case.rulesets import Known, Prepared, RuleSet, RuleSets, faults, warnings
from services.case.worktime import Day, WorkCalendar

ZONE = ZoneInfo("Asia/Shanghai")
CONDITIONS: TypeAdapter[Any] = TypeAdapter(Condition)
MONDAY = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
CALENDAR = WorkCalendar(ZONE, days={date(2026, 3, 4): Day("holiday", "节", "feast")}, years=frozenset({2026}), name="test")


def _category(code: str, *questions: dict[str, Any]) -> dict[str, Any]:
    condition = {"code": "1", "zh": "坏", "limit": "2WD", "closing_zh": "好", "department": "roads", "helping": ["parks"]}
    return {"code": code, "zh": code, "conditions": [condition], "questions": list(questions)}


LANE = {"key": "lane", "kind": "choice", "zh": "何处", "options": [{"code": "motor", "zh": "机"}, {"code": "foot", "zh": "人"}]}
DEPTH = {"key": "depth", "kind": "number", "zh": "多深"}
CONTENT = {
    "majors": [{"kind": "event", "code": c, "zh": c} for c in ("01", "02")] + [{"kind": "part", "code": "01", "zh": "01"}],
    "departments": [{"code": c, "zh": f"{c}所", "en": c.title()} for c in ("lamps", "roads", "parks", "water")],
    "categories": [
        _category("E0101", DEPTH, LANE), _category("E0102", {"key": "since", "kind": "date", "zh": "何时"}),
        _category("E0201", {"key": "blocked", "kind": "yes_no", "zh": "阻断"},
                  {"key": "noise", "kind": "choices", "zh": "何声", "options": [{"code": c, "zh": c} for c in ("a", "b", "c")]},
                  {"key": "words", "kind": "text", "zh": "说明"}),
        _category("P0101"),
    ],
}  # fmt: skip
EDITION = Edition("test", checked(CONTENT))


@dataclass(frozen=True)
class Lamp:
    owner: str | None
    maintainer: str | None


PARTS = {"A": Lamp("lamps", "roads"), "B": Lamp(None, "water")}


def subject(at: datetime = MONDAY, repeated: dict[str, int] | None = None, **changes: Any) -> Subject:
    row = {"category": "E0101", "division": "9902", "cell": "9902001", "channel": "public", "lon": 1.0, "lat": 1.0, "part": None,
           "answers": None} | changes  # fmt: skip
    counts = {"cell": 0, "part": 0, "near": 0} | (repeated or {})

    def count(_days: int, place: str, _metres: int) -> int | None:
        return counts[place] if place == "near" or row[place] else None

    def chain(division: str) -> tuple[str, ...]:
        return (division, division[:2]) if len(division) > 2 else (division,)

    return Subject(row, at, EDITION.categories.get(row["category"]), chain, PARTS.get, lambda: CALENDAR, count)


def judge(condition: Any, of: Subject) -> Outcome:
    return compiled(CONDITIONS.validate_python(condition)).judge(of)


def said(condition: Any, of: Subject) -> tuple[str, str]:
    tree = explained(of, compiled(CONDITIONS.validate_python(condition)))
    return tree["zh"], tree["en"]


LOST = Broken("坏", "lost")
FOUR: tuple[Outcome, ...] = (True, False, None, LOST)


def always(outcome: Outcome) -> Judge:
    return lambda _: outcome


@pytest.mark.parametrize(("one", "two"), list(itertools.product(FOUR, FOUR)))
def test_the_table_of_all_and_any(one: Outcome, two: Outcome) -> None:
    both = {one, two}
    every = False if False in both else LOST if LOST in both else None if None in both else True
    some = True if True in both else LOST if LOST in both else None if None in both else False
    judges = [always(one), always(two)]
    assert conjunction(judges)(subject()) == every
    assert negation(conjunction([negation(j) for j in judges]))(subject()) == some


def test_not_turns_only_what_is_known() -> None:
    assert [negation(always(o))(subject()) for o in FOUR] == [False, True, None, LOST]
    owned = {"kind": "owner", "among": ["lamps"]}
    assert judge(owned, subject()) is None, "no part"
    assert judge({"kind": "not", "of": owned}, subject()) is None, "what is not known is not known either way round"
    assert judge({"kind": "not", "of": {"kind": "known", "what": "part"}}, subject()) is True, "absence is asked for by itself"


EXAMPLES: list[tuple[dict[str, Any], Subject, Outcome, str]] = [
    ({"kind": "category", "among": ["E01"]}, subject(), True, "category E0101 is in E01"),
    ({"kind": "category", "among": ["E02", "E0101"]}, subject(), True, "category is E0101"),
    ({"kind": "category", "among": ["E02", "E0102"]}, subject(), False, "category E0101 is not in E02, E0102"),
    ({"kind": "area", "among": ["99"]}, subject(), True, "division 9902 is in 99"),
    ({"kind": "area", "among": ["9903"]}, subject(), False, "division 9902 is not in 9903"),
    ({"kind": "cell", "among": ["9902001"]}, subject(cell=None), None, "cell is not known"),
    ({"kind": "channel", "among": ["hotline", "public"]}, subject(), True, "channel is public"),
    ({"kind": "weekday", "among": ["sat", "sun"]}, subject(), False, "weekday mon is not in sat, sun"),
    ({"kind": "owner", "among": ["lamps"]}, subject(part="A"), True, "the part's owner is lamps"),
    ({"kind": "owner", "among": ["lamps"]}, subject(part="B"), None, "the part's owner is not known"),
    ({"kind": "maintainer", "among": ["lamps"]}, subject(part="B"), False, "the part's maintainer water is not in lamps"),
    ({"kind": "maintainer", "among": ["lamps"]}, subject(part="gone"), None, "the part's maintainer is not known"),
    ({"kind": "time", "begin": "08:00", "end": "09:30"}, subject(), False, "09:30 is not between 08:00 and 09:30"),
    ({"kind": "time", "begin": "09:30", "end": "24:00"}, subject(), True, "09:30 is between 09:30 and 24:00"),
    ({"kind": "time", "begin": "22:00", "end": "10:00"}, subject(), True, "09:30 is between 22:00 and 10:00"),
    ({"kind": "working", "what": "time"}, subject(), True, "2026-03-02 09:30 is working time"),
    ({"kind": "working"}, subject(MONDAY.replace(hour=13)), False, "2026-03-02 13:30 is not working time"),
    ({"kind": "working", "what": "day"}, subject(MONDAY.replace(hour=23)), True, "2026-03-02 23:30 is a work day"),
    ({"kind": "working", "what": "day"}, subject(MONDAY.replace(day=4)), False, "2026-03-04 09:30 is not a work day"),
    ({"kind": "repeated", "at_least": 2, "days": 30}, subject(repeated={"cell": 2}), True,
     "2 earlier cases of the family at the same cell in 30 days (2 needed)"),
    ({"kind": "repeated", "at_least": 2, "days": 7, "place": "near"}, subject(repeated={"near": 1}), False,
     "1 earlier case of the family within 50 m in 7 days (2 needed)"),
    ({"kind": "repeated", "at_least": 1, "days": 7, "place": "part"}, subject(), None, "the part is not known"),
    ({"kind": "known", "what": "owner"}, subject(part="B"), False, "the part's owner is not known"),
    ({"kind": "known", "what": "part"}, subject(part="B"), True, "the part is known"),
    ({"kind": "within", "polygon": [[0, 0], [2, 0], [2, 2], [0, 2]]}, subject(), True, "the place lies in the rule's outline"),
    ({"kind": "within", "polygon": [[0, 0], [3, 0], [0, 1.5]]}, subject(), False, "the place lies outside the rule's outline"),
    ({"kind": "answer", "key": "depth", "op": "ge", "value": 10}, subject(answers={"depth": 12.5}), True,
     "depth is 12.5, which is ≥ 10"),
    ({"kind": "answer", "key": "depth", "op": "lt", "value": 10}, subject(answers={"depth": 12}), False,
     "depth is 12, which is not < 10"),
    ({"kind": "answer", "key": "depth", "op": "lt", "value": 10}, subject(), None, "the answer to depth is not known"),
    ({"kind": "answer", "key": "lane", "op": "in", "value": ["motor"]}, subject(answers={"lane": "motor"}), True,
     "lane is motor, which is ∈ motor"),
    ({"kind": "answer", "key": "since", "op": "ge", "value": "2026-01-01"},
     subject(category="E0102", answers={"since": "2025-12-31"}), False, "since is 2025-12-31, which is not ≥ 2026-01-01"),
    ({"kind": "answer", "key": "blocked", "op": "eq", "value": True},
     subject(category="E0201", answers={"blocked": True}), True, "blocked is True, which is = True"),
    ({"kind": "answer", "key": "noise", "op": "in", "value": ["c", "d"]},
     subject(category="E0201", answers={"noise": ["a", "b"]}), LOST, "the question noise is of another kind now"),
    ({"kind": "answer", "key": "noise", "op": "in", "value": ["b", "c"]},
     subject(category="E0201", answers={"noise": ["a", "b"]}), True, "noise is a, b, which is ∈ b, c"),
    ({"kind": "answered", "key": "words"}, subject(category="E0201", answers={"words": "x"}), True, "words was answered"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "of", "outcome", "words"), EXAMPLES, ids=[w for *_, w in EXAMPLES])
def test_each_comparison(condition: dict[str, Any], of: Subject, outcome: Outcome, words: str) -> None:
    found = judge(condition, of)
    assert isinstance(found, Broken) if isinstance(outcome, Broken) else found is outcome
    zh, en = said(condition, of)
    assert en == words and zh and zh != en


def test_a_year_without_calendar_is_broken_and_not_a_guess() -> None:
    later = subject(MONDAY.replace(year=2031))
    found = judge({"kind": "working"}, later)
    assert isinstance(found, Broken) and "2031" in found.en
    weekend = {"kind": "weekday", "among": ["sat"]}
    assert judge({"kind": "all", "of": [{"kind": "working"}, weekend]}, later) is False, "where the other decides alone, no harm"
    assert isinstance(judge({"kind": "any", "of": [{"kind": "working"}, weekend]}, later), Broken)


@pytest.mark.parametrize("given_answer", ["7", True, ["motor"], {"a": 1}])
def test_an_answer_of_another_type_is_broken(given_answer: Any) -> None:
    condition = {"kind": "answer", "key": "depth", "op": "ge", "value": 1}
    assert isinstance(judge(condition, subject(answers={"depth": given_answer})), Broken)


def test_a_question_that_nobody_asks_any_more_is_broken() -> None:
    node = CONDITIONS.validate_python({"kind": "answer", "key": "depth", "op": "ge", "value": 1})
    assert isinstance(compiled(node, frozenset({"depth"})).judge(subject(answers={"depth": 3})), Broken)
    both = rule("r", {"kind": "all", "of": [{"kind": "category", "among": ["E0102"]}, {"kind": "answered", "key": "depth"}]})
    ((_, condition),) = Prepared.of([both], EDITION).candidates("E0102")
    assert isinstance(condition.judge(subject(category="E0102")), Broken)
    assert Prepared.of([both], EDITION).candidates("E0101") == ()


def test_the_reasons_are_those_that_decided() -> None:
    condition = {"kind": "all", "of": [
        {"kind": "category", "among": ["E01"]},
        {"kind": "any", "of": [{"kind": "channel", "among": ["hotline"]}, {"kind": "owner", "among": ["lamps"]}]},
        {"kind": "not", "of": {"kind": "any", "of": [{"kind": "area", "among": ["98"]}, {"kind": "weekday", "among": ["sun"]}]}},
    ]}  # fmt: skip
    tree = explained(subject(part="A"), compiled(CONDITIONS.validate_python(condition)))
    assert tree["result"] == "true" and [p["result"] for p in tree["of"]] == ["true"] * 3
    assert [en for _, en in reasons(tree)] == [
        "category E0101 is in E01", "the part's owner is lamps", "division 9902 is not in 98", "weekday mon is not in sun",
    ]  # fmt: skip
    everything = explained(subject(), compiled(CONDITIONS.validate_python({"kind": "all", "of": []})))
    assert list(reasons(everything)) == [("任何案件", "any case")]


def test_the_dear_comparison_is_asked_last_and_told_in_its_place() -> None:
    asked: list[str] = []
    of = subject()
    of.repeated = lambda days, place, metres: asked.append(place) or 0  # type: ignore[func-returns-value]
    node = CONDITIONS.validate_python(
        {"kind": "all", "of": [{"kind": "repeated", "at_least": 1, "days": 9}, {"kind": "category", "among": ["E02"]}]}
    )
    assert compiled(node).judge(of) is False and asked == []
    assert [p["kind"] for p in explained(of, compiled(node))["of"]] == ["repeated", "category"] and asked == ["cell", "cell"]


def rule(name: str, when: dict[str, Any], department: str = "lamps", **more: Any) -> RoutingRule:
    made = {"id": name, "zh": name, "en": name, "when": when, "then": {"department": department}}
    return RoutingRule.model_validate(made | more)


# Random rules against a judge that knows nothing of closures, order or indexes.


def plainly(condition: dict[str, Any], of: Subject) -> str:
    """true, false or unknown, by the definitions alone."""
    kind, row = condition["kind"], of.row
    if kind == "not":
        return {"true": "false", "false": "true", "unknown": "unknown"}[plainly(condition["of"], of)]
    if kind in ("all", "any"):
        parts = [plainly(c, of) for c in condition["of"]]
        strong, weak = ("false", "true") if kind == "all" else ("true", "false")
        return strong if strong in parts else "unknown" if "unknown" in parts else weak
    if kind == "known":
        return {True: "true", False: "false"}[_value(condition["what"], of) is not None]
    if kind == "answer":
        asked = condition["key"] == "depth" and row["category"] == "E0101"
        value = (row["answers"] or {}).get("depth") if asked else None
        return "unknown" if value is None else str(value >= condition["value"]).lower()
    if kind == "repeated":
        count = of.repeated(1, condition["place"], 50)
        return "unknown" if count is None else str(count >= condition["at_least"]).lower()
    if kind == "time":
        minutes = range(24 * 60)
        begin, end = (int(t[:2]) * 60 + int(t[3:]) for t in (condition["begin"], condition["end"]))
        inside = [m for m in minutes if begin <= m < end] if begin < end else [m for m in minutes if not end <= m < begin]
        return str(of.at.hour * 60 + of.at.minute in inside).lower()
    value = _value(kind, of)
    return "unknown" if value is None else str(any(value == c or (kind in ("category", "area") and value.startswith(c))
                                                   for c in condition["among"])).lower()  # fmt: skip


def _value(what: str, of: Subject) -> Any:
    part = PARTS.get(of.row["part"])
    if what == "part":
        return part
    if what in ("owner", "maintainer"):
        return getattr(part, what) if part else None
    return of.row["division" if what == "area" else what]


def some(*values: str) -> Any:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


LEAVES = st.one_of(
    st.builds(lambda v: {"kind": "category", "among": v}, some("E0101", "E0102", "E01", "E02", "P0101")),
    st.builds(lambda v: {"kind": "area", "among": v}, some("99", "9901", "9902")),
    st.builds(lambda v: {"kind": "cell", "among": v}, some("9902001", "9902002")),
    st.builds(lambda k, v: {"kind": k, "among": v}, st.sampled_from(["owner", "maintainer"]), some("lamps", "roads", "water")),
    st.builds(lambda w: {"kind": "known", "what": w}, st.sampled_from(["part", "owner", "maintainer", "cell"])),
    st.builds(lambda v: {"kind": "answer", "key": "depth", "op": "ge", "value": v}, st.integers(0, 20)),
    st.builds(lambda n, p: {"kind": "repeated", "at_least": n, "days": 1, "place": p}, st.integers(1, 3),
              st.sampled_from(["cell", "part", "near"])),
    st.builds(lambda a, b: {"kind": "time", "begin": f"{a:02}:00", "end": f"{b:02}:30"}, st.integers(0, 23), st.integers(0, 23)),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"kind": "all", "of": parts}, st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda parts: {"kind": "any", "of": parts}, st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda part: {"kind": "not", "of": part}, inner),
    ),
    max_leaves=12,
)
SUBJECTS = st.builds(
    lambda category, division, cell, part, depth, counts, hour: subject(
        MONDAY.replace(hour=hour), dict(zip(("cell", "part", "near"), counts, strict=True)), category=category, division=division,
        cell=cell, part=part, answers=depth,
    ),
    st.sampled_from(["E0101", "E0102", "E0201", "P0101"]), st.sampled_from(["9901", "9902"]), st.sampled_from([None, "9902001"]),
    st.sampled_from([None, "A", "B", "gone"]), st.sampled_from([None, {"depth": 7}, {"depth": 15}]),
    st.tuples(*[st.integers(0, 3)] * 3), st.integers(0, 23),
)  # fmt: skip
WORD = {True: "true", False: "false", None: "unknown"}


@settings(max_examples=600, deadline=None)
@given(TREES, SUBJECTS)
def test_a_random_condition_is_what_the_plain_judge_says(condition: dict[str, Any], of: Subject) -> None:
    node = CONDITIONS.validate_python(condition)
    made = compiled(node)
    outcome = made.judge(of)
    assert not isinstance(outcome, Broken)
    assert WORD[outcome] == plainly(condition, of)
    tree = explained(of, made)
    assert tree["result"] == WORD[outcome] and list(reasons(tree))
    alone = given_category(node, of.row["category"])
    assert alone is None or alone is outcome, "what the category decides alone is so whatever the rest"
    again = CONDITIONS.validate_python(CONDITIONS.dump_python(node, mode="json"))
    assert again == node, "stored and read again it is the same"


@settings(max_examples=200, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=8), SUBJECTS)
def test_the_first_match_is_found_through_the_index(conditions: list[dict[str, Any]], of: Subject) -> None:
    rules = [rule(f"r{n}", c) for n, c in enumerate(conditions)]
    expected = next((f"r{n}" for n, c in enumerate(conditions) if plainly(c, of) == "true"), None)
    # Questions that no possible category asks make a rule broken; such rules are looked at elsewhere.
    prepared = Prepared(tuple((r, compiled(r.when)) for r in rules))
    found = next((r.id for r, c in prepared.candidates(of.row["category"]) if c.judge(of) is True), None)
    assert found == expected


KNOWN = Known(EDITION, lambda division: division.startswith("99"), lambda cell: cell == "9902001")
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "category", "among": ["E0101", "E0999"]}, "/rules/0/when/among/1"),
    ({"kind": "all", "of": [{"kind": "not", "of": {"kind": "area", "among": ["98"]}}]}, "/rules/0/when/of/0/of/among/0"),
    ({"kind": "cell", "among": ["1"]}, "/rules/0/when/among/0"),
    ({"kind": "channel", "among": ["pigeon"]}, "/rules/0/when/among/0"),
    ({"kind": "weekday", "among": ["monday"]}, "/rules/0/when/among/0"),
    ({"kind": "owner", "among": ["ghosts"]}, "/rules/0/when/among/0"),
    ({"kind": "time", "begin": "08:00", "end": "08:00"}, "/rules/0/when/end"),
    ({"kind": "answered", "key": "nothing"}, "/rules/0/when/key"),
    ({"kind": "all", "of": [{"kind": "category", "among": ["E02"]}, {"kind": "answered", "key": "depth"}]},
     "/rules/0/when/of/1/key"),
    ({"kind": "answer", "key": "depth", "op": "in", "value": ["a"]}, "/rules/0/when/value"),
    ({"kind": "answer", "key": "lane", "op": "in", "value": ["sky"]}, "/rules/0/when/value"),
    ({"kind": "answer", "key": "words", "op": "eq", "value": "x"}, "/rules/0/when/value"),
    ({"kind": "answer", "key": "since", "op": "ge", "value": "2026-02-30"}, "/rules/0/when/value"),
    ({"kind": "answer", "key": "blocked", "op": "eq", "value": 1}, "/rules/0/when/value"),
]  # fmt: skip


@pytest.mark.parametrize(("when", "pointer"), WRONG, ids=[p + str(n) for n, (_, p) in enumerate(WRONG)])
def test_a_fault_names_its_place(when: dict[str, Any], pointer: str) -> None:
    assert [f.field for f in faults([rule("r", when)], KNOWN)] == [pointer]


def test_all_faults_are_told_at_once() -> None:
    anything = {"kind": "all", "of": []}
    deep: dict[str, Any] = {"kind": "channel", "among": ["public"]}
    for _ in range(9):
        deep = {"kind": "not", "of": deep}
    wrong = [
        rule("a", anything, "ghosts"), rule("a", anything, valid_from="2026-03-02", valid_to="2026-03-02"), rule("b", deep),
        rule("c", anything, then={"department": "part.owner", "helping": ["roads", "ghosts"]}),
        rule("d", {"kind": "any", "of": [{"kind": "any", "of": [{"kind": "channel", "among": ["public"]}] * 40}] * 2}),
    ]  # fmt: skip
    assert [f.field for f in faults(wrong, KNOWN)] == [
        "/rules/0/then/department", "/rules/1/id", "/rules/1/valid_to", "/rules/2/when", "/rules/3/then/helping/1",
        "/rules/4/when",
    ]  # fmt: skip
    assert list(faults([rule("r", anything, "condition.department")], KNOWN)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "exec", "code": "1"}, {"kind": "category", "among": []}, {"kind": "category", "among": "E01"},
        {"kind": "category", "among": ["E01"], "or": 1}, {"kind": "any", "of": []}, {"kind": "not", "of": []},
        {"kind": "repeated"},
        {"kind": "repeated", "at_least": "1", "days": 3}, {"kind": "time", "begin": "8:00", "end": "25:00"}, {}, "true", None,
        {"kind": "within", "polygon": [[0, 0], [1, 1]]}, {"kind": "within", "polygon": [[0, 0], [1, 1], [200, 0]]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_condition_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        CONDITIONS.validate_python(wrong)


def test_rules_that_nothing_reaches_are_told() -> None:
    first = rule("all-of-01", {"kind": "category", "among": ["E01"]})
    dark = {"kind": "time", "begin": "22:00", "end": "06:00"}
    night = rule("night", {"kind": "all", "of": [{"kind": "category", "among": ["E0101"]}, dark]})
    never = rule("never", {"kind": "all", "of": [{"kind": "category", "among": [f]} for f in ("E01", "E02")]})
    rest = rule("rest", {"kind": "all", "of": []}, "roads")
    last = rule("last", {"kind": "channel", "among": ["public"]})
    assert [w.field for w in warnings([first, night, never, rest, last], EDITION)] == ["/rules/1", "/rules/2/when", "/rules/4"]
    assert [w.field for w in warnings([night, first, last, rest], EDITION)] == []
    owned = rest.model_copy(update={"then": rest.then.model_copy(update={"department": "part.owner"})})
    off, dated = rest.model_copy(update={"enabled": False}), rest.model_copy(update={"valid_to": "2027-01-01"})
    assert [w.field for w in warnings([owned, off, dated, last], EDITION)] == [], "none of these takes everything for certain"


def test_the_newest_set_that_has_begun_holds() -> None:
    sets = RuleSets((RuleSet(3, (), "2026-05-01"), RuleSet(2, (), "2026-03-01"), RuleSet()))
    assert [sets.at(d).edition for d in ("2026-02-28", "2026-03-01", "2026-04-30", "2026-05-01", "2027-01-01")] == [0, 2, 2, 3, 3]
    held = rule("r", {"kind": "all", "of": []}, valid_from="2026-03-01", valid_to="2026-04-01")
    assert [held.on(d) for d in ("2026-02-28", "2026-03-01", "2026-03-31", "2026-04-01")] == [False, True, True, False]


def test_a_set_is_made_ready_once_for_an_edition() -> None:
    held = RuleSet(1, (rule("r", {"kind": "all", "of": []}),))
    assert held.prepared(EDITION) is held.prepared(EDITION)
    assert held.prepared(Edition("test", EDITION.content)) is not held.prepared(EDITION), "an equal edition is another one"


def test_an_answer_is_held_against_its_question() -> None:
    asked = Question(key="depth", kind="number", zh="多深")
    assert Answer(kind="answer", key="depth", op="ge", value=float("nan")).unfit(asked)
    assert Answer(kind="answer", key="depth", op="ge", value=10**400).unfit(asked)
    assert Answer(kind="answer", key="depth", op="ge", value=1).unfit(asked) is None
