"""Routing 派遣规则: which department gets a case and why, by the node's ordered rules, then by the case's filing condition.

The first rule that matches decides; where none does, the department of the filing condition; otherwise a dispatcher. A rule that
takes its department from a part which is not known does not decide, and a department that gave the case back is passed over; the
answer says so. A rule that cannot be judged stops the search: a dispatcher decides, and the trouble is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, select

from services.case.comparisons import Broken, Said, Subject
from services.case.entries import Category, Condition
from services.case.intake import Surroundings
from services.case.repetition import Earlier
from services.case.rewards import Held
from services.case.rules import FROM_CASE, Compiled, RoutingRule, explained, reasons
from services.case.rulesets import RuleSet, RuleSets
from services.case.tables import steps
from shared.clock import unstamp
from shared.errors import Invalid, NotFound
from shared.kept import Kept


class Routing(Surroundings, Protocol):
    """Surroundings that hold the rules of routing and of rewards."""

    routes: Kept[RuleSets]
    rewards: Held


@dataclass(frozen=True)
class Routed:
    """What the rules say of a case: department and those that help, or nobody; the rule, and why in both languages.

    `automatic`: dispatch at once. `broken`: the rule that could not be judged and the reason, with `department` then None.
    `tree` explains the rule comparison by comparison; `edition` is that of the set.
    """

    department: str | None
    helping: tuple[str, ...]
    rule: str | None
    automatic: bool
    why: dict[str, str]
    broken: dict[str, str] | None
    edition: int
    tree: dict[str, Any] | None

    def record(self) -> dict[str, Any]:
        """As the case keeps it."""
        return vars(self) | {"helping": list(self.helping)}


class Offer(NamedTuple):
    """A department that a rule, or without one the filing condition, offers; None where it is not known."""

    rule: RoutingRule | None
    condition: Compiled | None
    department: str | Broken | None


@dataclass
class Choice:
    """What the search came to; `passed` are the rules that matched and did not decide, with the department that gave it back."""

    rule: RoutingRule | None = None
    condition: Compiled | None = None
    department: str | None = None
    helping: tuple[str, ...] = ()
    broken: Broken | None = None
    passed: list[tuple[RoutingRule, str | None]] = field(default_factory=list)


def route(connection: Connection, around: Routing, row: Mapping[str, Any], at: datetime) -> Routed:
    """What the rules in force say of a case at `at`; `row` is the case with the filing condition that was chosen.

    Writes nothing; `rulebook.decide` also counts the rules that cannot be judged.
    """
    router = Router(connection, around, around.routes.get(connection), at)
    return router.routed(router.subject(row, at))


def examine(connection: Connection, around: Routing, row: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """What the rules say of a case at `at`, rule by rule: `now`, `suggestions`, `returned`, `rules`, and what was `recorded`."""
    router = Router(connection, around, around.routes.get(connection), at)
    of, said = router.subject(row, at), returns(connection, row["id"])
    given_back = [
        {"department": code, "zh": zh, "en": en, **said.get(code, {"at": None, "opinion": None})}
        for code in row["returned_by"] or () for zh, en in (router.name(code),)
    ]  # fmt: skip
    return {
        "now": router.routed(of).record(), "suggestions": list(router.suggestions(of)), "returned": given_back,
        "rules": [router.judged(of, rule, condition) for rule, condition in router.prepared.rules], "recorded": row["rule"],
    }  # fmt: skip


def returns(connection: Connection, case_id: str) -> dict[str, dict[str, Any]]:
    """When each department last asked to give the case back 回退, and what it said."""
    wanted = select(steps.c.department, steps.c.at, steps.c.opinion).where(
        steps.c.case_id == case_id, steps.c.action == "ask_return"
    )
    return {r.department: {"at": r.at, "opinion": r.opinion} for r in connection.execute(wanted.order_by(steps.c.version))}


class Router:
    """One set of rules as it holds at one moment, under the catalogue of that moment, for any number of cases."""

    def __init__(self, connection: Connection, around: Surroundings, sets: RuleSets | RuleSet, at: datetime) -> None:
        self._connection, self._around, local = connection, around, at.astimezone(around.zone)
        self._day = local.date()
        self._catalogues = around.catalogue.get(connection)
        self.edition = self._catalogues.at(self._day)
        self.rules = sets if isinstance(sets, RuleSet) else sets.at(self._day.isoformat())
        self.prepared = self.rules.prepared(self.edition)

    def subject(self, row: Mapping[str, Any], at: datetime) -> Subject:
        """The case as the rules see it at `at`."""
        local, around, connection = at.astimezone(self._around.zone), self._around, self._connection
        calendar = partial(around.calendar.get, connection)
        category = self._category(row, local.date())
        return Subject(row, local, category, around.chain, around.part, calendar, Earlier(connection, row))

    def _category(self, row: Mapping[str, Any], day: date) -> Category | None:
        """The case's entry in the catalogue under which it was filed, or is filed now; failing that, was reported."""
        if filed := row.get("filed_at"):
            day = unstamp(filed).astimezone(self._around.zone).date()
        edition = self.edition if day == self._day else self._catalogues.at(day)
        if (found := edition.categories.get(row["category"])) is not None:
            return found
        reported = unstamp(row["reported_at"]).astimezone(self._around.zone).date()
        try:
            return self._catalogues.of(row["edition"], reported).categories.get(row["category"])
        except NotFound:
            return None

    def offers(self, of: Subject) -> Iterator[Offer]:
        """Departments in the order in which they would be asked; ends after a rule that cannot be judged."""
        day = self._day.isoformat()
        for rule, condition in self.prepared.candidates(of.row["category"]):
            if not rule.on(day):
                continue
            outcome = condition.judge(of)
            found = self._target(rule.then.department, of) if outcome is True else outcome
            if outcome is True or isinstance(outcome, Broken):
                yield Offer(rule, condition, found)  # type: ignore[arg-type]
            if isinstance(found, Broken):
                return
        if filed := _filed_under(of):
            helping = filed.helping if of.row.get("returned_by") else ()
            yield from (Offer(None, None, code) for code in (filed.department, *helping))

    def choose(self, of: Subject) -> Choice:
        """The first department that did not give the case back."""
        if self.rules.fault is not None:
            return Choice(broken=Broken("规则无法读取", self.rules.fault))
        choice, returned = Choice(), of.row.get("returned_by") or ()
        for rule, condition, department in self.offers(of):
            if isinstance(department, str) and department not in returned:
                choice.rule, choice.condition, choice.department = rule, condition, department
                self._help(choice, of, returned)
                return choice
            if isinstance(department, Broken):
                choice.rule, choice.condition, choice.broken = rule, condition, department
                return choice
            if rule is not None:
                choice.passed.append((rule, department))
        return choice

    def suggestions(self, of: Subject) -> Iterator[dict[str, Any]]:
        """Whom to ask, the next one first, without those that gave the case back."""
        seen = {*(of.row.get("returned_by") or ())}
        for rule, _, code in self.offers(of) if self.rules.fault is None else ():
            if isinstance(code, str) and code not in seen:
                seen.add(code)
                zh, en = self.name(code)
                yield {"department": code, "zh": zh, "en": en, "rule": rule.id if rule else None}

    def judged(self, of: Subject, rule: RoutingRule, condition: Compiled) -> dict[str, Any]:
        """One rule and what it comes to."""
        tree = explained(of, condition)
        if not rule.on(self._day.isoformat()):
            tree |= {"result": "false", "zh": f"规则 {rule.id} 当日无效", "en": f"rule {rule.id} does not hold on this day"}
        return {"rule": rule.id, "zh": rule.zh, "en": rule.en, "result": tree["result"], "tree": tree}

    def _help(self, choice: Choice, of: Subject, returned: Sequence[str]) -> None:
        """Those that help, without the one in the lead and without any that gave the case back."""
        condition = _filed_under(of)
        wanted = choice.rule.then.helping if choice.rule else condition.helping if condition else ()
        found = [self._target(code, of) for code in wanted]
        if broken := next((f for f in found if isinstance(f, Broken)), None):
            choice.department, choice.broken = None, broken
            return
        codes = (f for f in found if isinstance(f, str) and f != choice.department and f not in returned)
        choice.helping = tuple(dict.fromkeys(codes))

    def _target(self, word: str, of: Subject) -> str | Broken | None:
        """The department that a rule means for this case."""
        if word == "condition.department":
            filed = _filed_under(of)
            code = filed.department if filed else None
        else:
            code = getattr(of.part, word.removeprefix("part."), None) if word in FROM_CASE else word
        if code is None or code in self.edition.departments:
            return code
        zh, en = FROM_CASE.get(word, ("部门", "the department"))
        return Broken(f"{zh} {code} 不在现行目录中", f"{en} {code} is not in the catalogue in force")

    def routed(self, of: Subject) -> Routed:
        """The choice in words."""
        choice = self.choose(of)
        rule, broken = choice.rule, choice.broken
        tree = explained(of, choice.condition) if choice.condition else None
        parts = [*self._passed(of, choice), self._said(choice, tree, bool(of.row.get("returned_by")))]
        why = {"zh": "；".join(p[0] for p in parts) + "。", "en": "; ".join(p[1] for p in parts) + "."}
        automatic = bool(rule and rule.automatic and choice.department and not of.row.get("returned_by"))
        name = rule.id if rule else None
        trouble = {"rule": name or "", "zh": broken.zh, "en": broken.en} if broken else None
        return Routed(choice.department, choice.helping, name, automatic, why, trouble, self.rules.edition, tree)

    def name(self, code: str) -> Said:
        """A department for people to read."""
        known = self.edition.departments.get(code)
        return (f"{known.zh}（{code}）", f"{known.en or known.zh} ({code})") if known else (code, code)

    def _passed(self, of: Subject, choice: Choice) -> Iterator[Said]:
        """Who gave the case back, and the rules that matched and named nobody."""
        for code in of.row.get("returned_by") or ():
            zh, en = self.name(code)
            yield f"{zh}已退回", f"{en} gave it back"
        for rule, department in choice.passed:
            if department is None:
                zh, en = FROM_CASE[rule.then.department]
                yield f"规则 {rule.id} 适用，但{zh}未知", f"rule {rule.id} matches, but {en} is not known"

    def _said(self, choice: Choice, tree: dict[str, Any] | None, again: bool) -> Said:
        rule, edition = choice.rule, self.rules.edition
        if choice.broken:
            name = rule.id if rule else ""
            return (f"规则 {name}（第 {edition} 版）无法判断：{choice.broken.zh}，由派遣员决定",
                    f"rule {name} of edition {edition} cannot be judged: {choice.broken.en}; a dispatcher decides")  # fmt: skip
        if choice.department is None:
            return "没有可派遣的部门，由派遣员决定", "no rule and no filing condition names a department; a dispatcher decides"
        zh, en = self.name(choice.department)
        zh, en = (f"下一个建议：{zh}", f"next suggestion: {en}") if again else (zh, en)
        if rule is None or tree is None:
            return (f"没有{'其他' if again else ''}规则适用，按立案条件：{zh}",
                    f"no {'other ' if again else ''}rule matches; by the filing condition: {en}")  # fmt: skip
        because = list(reasons(tree))
        zh_why, en_why = "，".join(b[0] for b in because), ", ".join(b[1] for b in because)
        return (f"规则 {rule.id}“{rule.zh}”（第 {edition} 版）：{zh_why} → {zh}",
                f"rule {rule.id} “{rule.en}” of edition {edition}: {en_why} → {en}")  # fmt: skip


def _filed_under(of: Subject) -> Condition | None:
    """The case's filing condition, the first of its category where none was chosen; None where the catalogue has lost it."""
    try:
        return of.category.condition(of.row.get("condition")) if of.category else None
    except Invalid:
        return None
