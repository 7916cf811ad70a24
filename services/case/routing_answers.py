"""What the routes of the routing rules answer, as their interface document shows it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from services.case.rules import RoutingRule


class RuleRemark(BaseModel):
    """Something about a set: where, and what."""

    field: str
    reason: str


class RuleTrouble(BaseModel):
    """A rule that could not be judged; a dispatcher decided those cases."""

    rule: str
    zh: str
    en: str
    cases: int
    last_at: str


class RoutingNow(BaseModel):
    """A set of rules. `faults`: what does not fit the catalogue now; `warnings`: rules that no case can reach."""

    edition: int = Field(description="0: what came with the data pack")
    last: int = Field(description="the highest edition, which a change names; above `edition` where one begins later")
    valid_from: str | None
    rules: list[RoutingRule]
    fault: str | None = Field(description="why the stored set cannot be read")
    faults: list[RuleRemark]
    warnings: list[RuleRemark]
    troubles: list[RuleTrouble]


class CheckedRules(BaseModel):
    """What saving would say: faults, for which it would refuse, and warnings."""

    faults: list[RuleRemark]
    warnings: list[RuleRemark]


class SavedSet(BaseModel):
    """A set that was saved, without its rules."""

    edition: int
    valid_from: str
    changed_at: str
    changed_by: str
    note: str


class SavedSets(BaseModel):
    """A page of editions, the newest first; `next` is `before` of the following page."""

    items: list[SavedSet]
    next: int | None


class CaseNamed(BaseModel):
    """A case by id and by the number for people."""

    id: str
    number: str


class CasesCounted(BaseModel):
    """How many, and a few of them."""

    cases: int
    examples: list[CaseNamed]


class Unjudged(CasesCounted):
    """Cases for which a rule cannot be judged."""

    rule: str
    zh: str
    en: str


class RoutedTo(BaseModel):
    """What a set does with a case; without department a dispatcher decides."""

    department: str | None
    automatic: bool
    helping: list[str]
    broken: bool


class RoutedOtherwise(CasesCounted):
    """Cases for which the two sets differ in the same way."""

    before: RoutedTo
    after: RoutedTo


class RuleCases(BaseModel):
    """How many cases a rule decides."""

    rule: str
    cases: int


class SetTally(BaseModel):
    """What a set does with the cases: by rule, by filing condition, nobody, not judged; `as_handled`: to whoever handled it."""

    edition: int | None
    rules: list[RuleCases]
    condition: int
    nobody: int
    broken: int
    automatic: int
    as_handled: int


class RehearsalDone(BaseModel):
    """Past cases under the present and the proposed rules; `handled` of them show who really did it."""

    looked: int
    complete: bool = Field(description="false where the time was up before all cases were seen")
    handled: int
    same: int
    differ: int
    present: SetTally
    candidate: SetTally
    changes: list[RoutedOtherwise]
    more_changes: int
    unmatched: CasesCounted = Field(description="cases that none of the proposed rules matches")
    broken: list[Unjudged]


class Sentence(BaseModel):
    """A sentence in both languages."""

    zh: str
    en: str


class RuleExplained(Sentence):
    """A condition and what it came to for a case, part by part; unknown: the case does not have what is asked about."""

    kind: str
    result: Literal["true", "false", "unknown", "broken"]
    of: list[RuleExplained]


class Unjudgeable(Sentence):
    """The rule and the reason."""

    rule: str


class RoutedCase(BaseModel):
    """What the rules say: who gets the case, who helps, and why."""

    department: str | None
    helping: list[str]
    rule: str | None
    automatic: bool = Field(description="dispatch at once")
    why: Sentence
    broken: Unjudgeable | None = Field(description="a rule that could not be judged: a dispatcher decides")
    edition: int
    tree: RuleExplained | None


class Suggestion(Sentence):
    """A department that may be asked, the next one first; without a rule it is the filing condition's."""

    department: str
    rule: str | None


class GivenBack(Sentence):
    """A department that gave the case back, and what it said when it asked to."""

    department: str
    at: str | None
    opinion: str | None


class RuleJudged(Sentence):
    """A rule of the set in force and what it comes to for the case."""

    rule: str
    result: Literal["true", "false", "unknown", "broken"]
    tree: RuleExplained


class CaseRouting(BaseModel):
    """What the rules say of a case now, rule by rule; `recorded` is what they said when it was filed."""

    now: RoutedCase
    suggestions: list[Suggestion]
    returned: list[GivenBack]
    rules: list[RuleJudged]
    recorded: dict[str, Any] | None
