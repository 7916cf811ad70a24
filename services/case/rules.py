"""The language of routing rules 派遣规则: conditions put together from comparisons, judged in three values and explained; pure.

The rule of missing values. A comparison with something that a case does not have is neither true nor false but unknown, and so is
its negation: "not (the part's owner is lamps)" does not match a case without a part. One false makes `all` false and one true
makes `any` true, whatever else is unknown. A rule matches where its whole is true. Whoever means "has no part" says not (known
part). A comparison that cannot be made is broken: what it could still decide is broken as well, which counts before unknown, so
that nothing is passed over in silence; where the others decide alone, it does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from operator import eq, ge, gt, le, lt
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.base import SHORT
from services.case.comparisons import (
    Among,
    Broken,
    Code,
    Comparison,
    IsKnown,
    Judge,
    Outcome,
    Repeated,
    Said,
    Subject,
    TimeOfDay,
    Within,
    Working,
)
from services.case.questions import DAY, Question
from services.case.texts import plain

Key = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
Chosen = Annotated[tuple[Key, ...], Field(strict=False, max_length=30)]
Sign = Literal["eq", "lt", "le", "gt", "ge", "in"]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {"eq": eq, "lt": lt, "le": le, "gt": gt, "ge": ge}
SIGNS: dict[str, str] = {"eq": "=", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "∈"}
TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float), "date": (str,), "choice": (str,), "choices": (list,), "yes_no": (bool,),
}  # fmt: skip
"""What an answer to a kind of question is."""


def is_day(text: str) -> bool:
    try:
        return bool(DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


class Answer(Comparison):
    """An answer to an extra question 补充问题 against a value: numbers and days by size, choices by `in`, yes/no by `eq`."""

    kind: Literal["answer"]
    key: Key
    op: Sign
    value: bool | int | float | Annotated[str, Field(max_length=40)] | Chosen

    def unfit(self, question: Question) -> str | None:
        """Why this cannot be asked of a question of this kind."""
        value, sized = self.value, self.op != "in"
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
        fits = {
            "number": sized and number,
            "date": sized and isinstance(value, str) and is_day(value),
            "choice": not sized and isinstance(value, tuple) and bool(value),
            "choices": not sized and isinstance(value, tuple) and bool(value),
            "yes_no": self.op == "eq" and isinstance(value, bool),
            "text": False,
        }[question.kind]
        if not fits:
            return f"{self.key} is a question of the kind {question.kind}, which cannot be asked that way"
        strange = {*value} - {o.code for o in question.options} if isinstance(value, tuple) else set()
        return f"{self.key} is never answered with {min(strange)}" if strange else None

    def judge(self) -> Judge:
        key, wanted, compare = self.key, self.value, COMPARE.get(self.op)
        seen: tuple[Question | None, bool] = (None, False)

        def check(of: Subject) -> Outcome:
            nonlocal seen
            question, given = of.questions.get(key), of.answer(key)
            if question is None or given is None:
                return None
            # Read once, since several threads judge at a time.
            if (fit := seen)[0] is not question:
                fit = seen = (question, self.unfit(question) is None)
            if not fit[1] or type(given) not in TYPES[question.kind]:
                return Broken(f"问题“{self.key}”已改变，不能再这样比较", f"the question {self.key} is of another kind now")
            if compare is not None:
                return compare(given, wanted)
            return not {*given}.isdisjoint(wanted) if isinstance(given, list) else given in wanted  # type: ignore[arg-type, operator]

        return check

    def said(self, of: Subject, outcome: Outcome) -> Said:
        given = of.answer(self.key)
        if outcome is None:
            return f"“{self.key}”未回答", f"the answer to {self.key} is not known"
        value = ", ".join(self.value) if isinstance(self.value, tuple) else self.value
        shown = ", ".join(given) if isinstance(given, list) else given
        sign = f"{SIGNS[self.op]} {value}"
        zh, en = ("符合", "is") if outcome else ("不符合", "is not")
        return f"“{self.key}”为 {shown}，{zh} {sign}", f"{self.key} is {shown}, which {en} {sign}"


class Answered(Comparison):
    """An extra question was answered; always true or false."""

    kind: Literal["answered"]
    key: Key

    def judge(self) -> Judge:
        return lambda of: of.answer(self.key) is not None

    def said(self, of: Subject, outcome: Outcome) -> Said:
        zh, en = ("已回答", "was answered") if outcome else ("未回答", "was not answered")
        return f"“{self.key}”{zh}", f"{self.key} {en}"


class Every(BaseModel):
    """All of these; without any of them always true."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: Literal["all"]
    of: Annotated[tuple[Condition, ...], Field(strict=False, max_length=50)]


class Some(BaseModel):
    """One of these or more."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: Literal["any"]
    of: Annotated[tuple[Condition, ...], Field(strict=False, min_length=1, max_length=50)]


class Negated(BaseModel):
    """Not this; unknown stays unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    kind: Literal["not"]
    of: Condition


Leaf: TypeAlias = Among | Within | TimeOfDay | Working | Repeated | IsKnown | Answer | Answered
Condition = Annotated[Leaf | Every | Some | Negated, Field(discriminator="kind")]
Node: TypeAlias = Leaf | Every | Some | Negated
for _model in (Every, Some, Negated):
    _model.model_rebuild()

Title = Annotated[str, AfterValidator(plain), Field(min_length=1, max_length=120)]


def _day(text: str) -> str:
    if not is_day(text):
        raise ValueError("must be a day such as 2026-03-01")
    return text


Day = Annotated[str, Field(max_length=10), AfterValidator(_day)]
FROM_CASE: dict[str, Said] = {
    "part.owner": ("部件权属单位", "the part's owner"), "part.maintainer": ("部件养护单位", "the part's maintainer"),
    "condition.department": ("立案条件的责任部门", "the filing condition's department"),
}  # fmt: skip
"""Departments that are not named but taken from the case: responsibility may follow the object 权属, not only the territory."""


class Then(BaseModel):
    """Who gets the case: codes of departments of the catalogue, or a word that takes them from the case."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    department: Code = Field(description=f"a department of the catalogue, or one of {', '.join(FROM_CASE)}")
    helping: Annotated[tuple[Code, ...], Field(strict=False, max_length=20)] = ()


class RoutingRule(BaseModel):
    """One rule. It holds from `valid_from` up to, but not on, `valid_to`, on civil days of the node."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    id: Annotated[str, Field(pattern=f"^{SHORT}$")]
    zh: Title
    en: Title
    when: Condition
    then: Then
    automatic: bool = Field(False, description="dispatch at once at filing; otherwise it only suggests")
    enabled: bool = True
    valid_from: Day | None = None
    valid_to: Day | None = None

    def on(self, day: str) -> bool:
        return self.enabled and (self.valid_from or "") <= day and (self.valid_to is None or day < self.valid_to)


def conjunction(outcomes: Sequence[Judge]) -> Judge:
    """True where all are true; a broken one counts before an unknown one."""

    def check(of: Subject) -> Outcome:
        found: Outcome = True
        for judge in outcomes:
            one = judge(of)
            if one is False:
                return False
            if one is not True and not isinstance(found, Broken):
                found = one
        return found

    return check


def negation(inner: Judge) -> Judge:
    def check(of: Subject) -> Outcome:
        found = inner(of)
        return not found if isinstance(found, bool) else found

    return check


@dataclass(frozen=True)
class Compiled:
    """A condition as a function, with its parts for the explanation. `cost` orders them: the cheap ones may decide alone."""

    node: Node
    judge: Judge
    parts: tuple[Compiled, ...] = ()
    cost: int = 0


COSTS: dict[str, int] = {"working": 1, "repeated": 2}


def compiled(node: Node, gone: frozenset[str] = frozenset()) -> Compiled:
    """`gone` are keys of questions that no category asks any more to which the rule could apply."""
    if isinstance(node, Every | Some | Negated):
        parts = tuple(compiled(n, gone) for n in (node.of if not isinstance(node, Negated) else (node.of,)))
        judges = [p.judge for p in sorted(parts, key=lambda p: p.cost)]
        if isinstance(node, Every):
            judge = conjunction(judges)
        elif isinstance(node, Some):
            judge = negation(conjunction([negation(j) for j in judges]))
        else:
            judge = negation(judges[0])
        return Compiled(node, judge, parts, max((p.cost for p in parts), default=0))
    if isinstance(node, Answer | Answered) and node.key in gone:
        lost = Broken(f"目录不再询问“{node.key}”", f"the catalogue asks for {node.key} no more")
        return Compiled(node, lambda _: lost)
    return Compiled(node, node.judge(), (), COSTS.get(node.kind, 0))


WORDS: dict[str, Said] = {"all": ("全部满足", "all of these"), "any": ("满足其一", "one of these"), "not": ("不满足", "not this")}
RESULTS = {True: "true", False: "false", None: "unknown"}


def explained(of: Subject, what: Compiled) -> dict[str, Any]:
    """The tree of a condition for this case: of every comparison what came out and with which value, in both languages."""
    outcome, node = what.judge(of), what.node
    if isinstance(node, Every | Some | Negated):
        zh, en = WORDS[node.kind]
    else:
        zh, en = outcome if isinstance(outcome, Broken) else node.said(of, outcome)
    result = "broken" if isinstance(outcome, Broken) else RESULTS[outcome]
    return {"kind": node.kind, "result": result, "zh": zh, "en": en, "of": [explained(of, p) for p in what.parts]}


def reasons(tree: dict[str, Any]) -> Iterator[Said]:
    """The comparisons that made the whole what it is, in order."""
    if not tree["of"]:
        yield (tree["zh"], tree["en"]) if tree["kind"] not in WORDS else ("任何案件", "any case")
        return
    # All parts where each was needed, otherwise those that decided.
    deciding = {part["result"] for part in tree["of"]} if tree["kind"] == "not" else {tree["result"]}
    for part in tree["of"]:
        if part["result"] in deciding:
            yield from reasons(part)


def given_category(node: Node, code: str) -> bool | None:
    """What a condition comes to if nothing but the category is known; None where that does not decide it."""
    if isinstance(node, Among):
        return bool({code, code[:3]} & {*node.among}) if node.kind == "category" else None
    if isinstance(node, Negated):
        inner = given_category(node.of, code)
        return None if inner is None else not inner
    if isinstance(node, Every | Some):
        found = {given_category(n, code) for n in node.of}
        deciding = isinstance(node, Some)
        return deciding if deciding in found else None if None in found else not deciding
    return None


def questions_of(node: Node) -> set[str]:
    """The keys of questions that a condition asks about."""
    if isinstance(node, Every | Some):
        return set().union(*(questions_of(n) for n in node.of))
    return questions_of(node.of) if isinstance(node, Negated) else {node.key} if isinstance(node, Answer | Answered) else set()
