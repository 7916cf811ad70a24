"""Ordered sets of routing rules: made ready for an edition of the catalogue, and checked against it; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from contracts.case import Channel
from services.case.catalogue import Edition
from services.case.comparisons import DAYS, Among, TimeOfDay
from services.case.rules import (
    FROM_CASE,
    Answer,
    Answered,
    Compiled,
    Every,
    Leaf,
    Negated,
    Node,
    RoutingRule,
    Some,
    compiled,
    given_category,
    questions_of,
)

MOST_RULES, DEEPEST, MOST_COMPARISONS, HELD = 500, 8, 60, 8
"""Bounds of a set: rules, nesting and comparisons of one rule; and for how many editions of the catalogue it is kept ready."""


@dataclass
class Prepared:
    """A set made ready for one edition of the catalogue; rules that a category alone rules out are not asked again."""

    rules: tuple[tuple[RoutingRule, Compiled], ...]
    _of_category: dict[str, tuple[tuple[RoutingRule, Compiled], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Iterable[RoutingRule], edition: Edition) -> Prepared:
        return cls(tuple((rule, compiled(rule.when, _gone(rule, edition))) for rule in rules if rule.enabled))

    def candidates(self, category: str) -> tuple[tuple[RoutingRule, Compiled], ...]:
        found = self._of_category.get(category)
        if found is None:
            found = tuple(r for r in self.rules if given_category(r[0].when, category) is not False)
            self._of_category[category] = found
        return found


def _gone(rule: RoutingRule, edition: Edition) -> frozenset[str]:
    """Questions that the rule asks about and no category asks to which it could apply."""
    if not (keys := questions_of(rule.when)):
        return frozenset()
    return frozenset(keys - {q.key for code in _possible(rule, edition) for q in edition.categories[code].questions})


def _possible(rule: RoutingRule, edition: Edition) -> list[str]:
    return [code for code in edition.categories if given_category(rule.when, code) is not False]


@dataclass(frozen=True)
class RuleSet:
    """One edition of a node's rules, in force from the civil day `valid_from` on; 0 is what the data pack brought.

    `fault` says why what is stored cannot be read as rules: then every case goes to a person, with that note.
    """

    edition: int = 0
    rules: tuple[RoutingRule, ...] = ()
    valid_from: str = ""
    fault: str | None = None
    _held: dict[int, tuple[Edition, Prepared]] = field(default_factory=dict, compare=False, repr=False)

    def prepared(self, edition: Edition) -> Prepared:
        # By identity: comparing two editions takes longer than routing a case. While it is held here no other has its identity.
        held = self._held.get(id(edition))
        if held is None:
            if len(self._held) >= HELD:
                self._held.clear()
            held = self._held[id(edition)] = (edition, Prepared.of(self.rules, edition))
        return held[1]


@dataclass(frozen=True)
class RuleSets:
    """The set in force and those that come, newest first: of those that have begun the newest holds."""

    sets: tuple[RuleSet, ...] = (RuleSet(),)

    def at(self, day: str) -> RuleSet:
        return next((s for s in self.sets if s.valid_from <= day), self.sets[-1])


class Fault(NamedTuple):
    """What is wrong with a set, or of no use in it: JSON pointer and reason."""

    field: str
    reason: str


@dataclass(frozen=True)
class Known:
    """What rules are held against: the catalogue's edition, whether a division lies in this node, whether a cell is known."""

    edition: Edition
    inside: Callable[[str], bool]
    cell: Callable[[str], bool]


def faults(rules: Sequence[RoutingRule], known: Known) -> Iterator[Fault]:
    """Everything that makes rules unfit for this node and this edition."""
    seen: dict[str, int] = {}
    for at, rule in enumerate(rules):
        where = f"/rules/{at}"
        if rule.id in seen:
            yield Fault(f"{where}/id", f"{rule.id} is the id of rule {seen[rule.id] + 1} already")
        seen.setdefault(rule.id, at)
        if rule.valid_from and rule.valid_to and rule.valid_to <= rule.valid_from:
            yield Fault(f"{where}/valid_to", "must lie after valid_from")
        for name, codes in (("department", (rule.then.department,)), ("helping", rule.then.helping)):
            for n, code in enumerate(codes):
                if code not in known.edition.departments and code not in FROM_CASE:
                    place = f"{where}/then/{name}" + (f"/{n}" if name == "helping" else "")
                    yield Fault(place, f"no department {code} in the catalogue {known.edition.code}")
        yield from _of_condition(rule, where, known)


def _of_condition(rule: RoutingRule, where: str, known: Known) -> Iterator[Fault]:
    nodes = list(_walk(rule.when, f"{where}/when", 1))
    leaves = [(node, place) for node, place, _ in nodes if isinstance(node, Leaf)]
    if len(leaves) > MOST_COMPARISONS:
        yield Fault(f"{where}/when", f"has more than {MOST_COMPARISONS} comparisons: make two rules of it")
    if max(depth for _, _, depth in nodes) > DEEPEST:
        yield Fault(f"{where}/when", f"is nested more than {DEEPEST} deep")
        return
    for node, place in leaves:
        if isinstance(node, Among):
            yield from (Fault(f"{place}/among/{n}", r) for n, c in enumerate(node.among) if (r := _strange(node.kind, c, known)))
        elif isinstance(node, Answer | Answered):
            if fault := _unasked(node, rule, known.edition):
                yield Fault(f"{place}/{fault.field}", fault.reason)
        elif isinstance(node, TimeOfDay) and node.begin == node.end:
            yield Fault(f"{place}/end", "begin and end are the same")


def _walk(node: Node, where: str, depth: int) -> Iterator[tuple[Node, str, int]]:
    yield node, where, depth
    if isinstance(node, Every | Some):
        for n, part in enumerate(node.of):
            yield from _walk(part, f"{where}/of/{n}", depth + 1)
    elif isinstance(node, Negated):
        yield from _walk(node.of, f"{where}/of", depth + 1)


def _strange(kind: str, code: str, known: Known) -> str | None:
    """Why no case of this node can have this code."""
    edition = known.edition
    if kind == "category":
        right = code in edition.categories or any(c.family == code for c in edition.categories.values())
        return None if right else f"no category or family {code} in the catalogue {edition.code}"
    if kind == "area":
        return None if known.inside(code) else f"the division {code} does not lie in this node"
    if kind == "cell":
        return None if known.cell(code) else f"no grid cell {code} is known here"
    if kind in ("owner", "maintainer"):
        return None if code in edition.departments else f"no department {code} in the catalogue {edition.code}"
    right_ones = get_args(Channel) if kind == "channel" else DAYS
    return None if code in right_ones else f"must be one of {', '.join(right_ones)}"


def _unasked(node: Answer | Answered, rule: RoutingRule, edition: Edition) -> Fault | None:
    """Why the answer that a comparison needs can never come, or not in its type."""
    asked = [(c, q) for c in _possible(rule, edition) for q in edition.categories[c].questions if q.key == node.key]
    if not asked:
        return Fault("key", f"no category to which this rule can apply asks {node.key}")
    if isinstance(node, Answered):
        return None
    return next((Fault("value", f"in {code}: {reason}") for code, question in asked if (reason := node.unfit(question))), None)


def warnings(rules: Sequence[RoutingRule], edition: Edition) -> Iterator[Fault]:
    """Rules that no case can reach: the category rules it out, or earlier rules take all of its categories for certain.

    An earlier rule that takes the department from a part does not count, because a part need not have one.
    """
    covered: dict[str, str] = {}
    for at, rule in enumerate(rules):
        if not rule.enabled:
            continue
        outcomes = {code: given_category(rule.when, code) for code in edition.categories}
        possible = [code for code, outcome in outcomes.items() if outcome is not False]
        if not possible:
            yield Fault(f"/rules/{at}/when", f"{rule.id} matches no category of the catalogue {edition.code}")
        elif covered.keys() >= {*possible}:
            before = ", ".join(sorted({covered[c] for c in possible})[:5])
            yield Fault(f"/rules/{at}", f"{rule.id} is only asked where a department gave a case back: {before} comes first")
        if not rule.valid_from and not rule.valid_to and not rule.then.department.startswith("part."):
            for code in possible:
                if outcomes[code]:
                    covered.setdefault(code, rule.id)
