"""Rehearsal of routing rules 规则演练: what a changed set would do with past cases, beside the present one and what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import Connection, func, or_, select, tuple_

from services.case.routing import Choice, Router, Routing
from services.case.rules import RoutingRule
from services.case.rulesets import RuleSet
from services.case.tables import cases
from shared.clock import stamp, unstamp

COLUMNS = (
    "id", "number", "category", "edition", "condition", "channel", "lon", "lat", "division", "cell", "part", "answers",
    "department", "reported_at", "filed_at", "handled_at", "changed_at",
)  # fmt: skip
"""What rules can judge by, and what became of the case. Who gave it back is not among it: rehearsed is the first dispatch."""
CHUNK, EXAMPLES, MOST_CHANGES = 500, 5, 200
LEEWAY = timedelta(days=1)
"""Nothing is known here long before it was reported, so that the index by change can begin that much earlier."""


@dataclass(frozen=True)
class Past:
    """Which cases: filed, reported within the days back, of one category or family or of all; the last changed first."""

    days: int = 90
    category: str | None = None
    limit: int = 10_000


@dataclass
class Tally:
    """What one set does with the cases."""

    edition: int | None
    rules: Counter[str] = field(default_factory=Counter)
    condition: int = 0
    nobody: int = 0
    broken: int = 0
    automatic: int = 0
    as_handled: int = 0

    def add(self, choice: Choice, handled: str | None) -> None:
        if choice.broken:
            self.broken += 1
        elif choice.department is None:
            self.nobody += 1
        elif choice.rule:
            self.rules[choice.rule.id] += 1
            self.automatic += choice.rule.automatic
        else:
            self.condition += 1
        self.as_handled += handled is not None and choice.department == handled

    def told(self, rules: Sequence[RoutingRule]) -> dict[str, Any]:
        return vars(self) | {"rules": [{"rule": r.id, "cases": self.rules[r.id]} for r in rules]}


@dataclass
class Found:
    """Cases of one kind: how many, and a few of them."""

    cases: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        self.cases += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"id": row["id"], "number": row["number"]})


@dataclass
class Rehearsal:
    """Both sets over the same cases."""

    present: Tally
    candidate: Tally
    looked: int = 0
    handled: int = 0
    changes: dict[tuple[Any, ...], Found] = field(default_factory=dict)
    unmatched: Found = field(default_factory=Found)
    broken: dict[tuple[str, str, str], Found] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any], before: Choice, after: Choice) -> None:
        handled = row["department"] if row["handled_at"] else None
        self.looked += 1
        self.handled += handled is not None
        self.present.add(before, handled)
        self.candidate.add(after, handled)
        if (old := _outcome(before)) != (new := _outcome(after)):
            self.changes.setdefault((old, new), Found()).add(row)
        if after.broken:
            name = after.rule.id if after.rule else ""
            self.broken.setdefault((name, *after.broken), Found()).add(row)
        elif after.rule is None:
            self.unmatched.add(row)


def _outcome(choice: Choice) -> tuple[str | None, bool, tuple[str, ...], bool]:
    """(department, whether it is dispatched at once, who helps, whether a rule could not be judged)."""
    at_once = bool(choice.rule and choice.rule.automatic and choice.department)
    return choice.department, at_once, tuple(sorted(choice.helping)), choice.broken is not None


def rehearse(
    connection: Connection, around: Routing, rules: Sequence[RoutingRule], past: Past, at: datetime, *, seconds: float = 20.0
) -> dict[str, Any]:  # fmt: skip
    """Run `rules` and the set in force over past cases, each at the moment of its filing, under the catalogue of `at`.

    Stops after `seconds` with what it has; `complete` says whether it saw all that was asked for. Writes nothing.
    """
    until = monotonic() + seconds
    present = Router(connection, around, around.routes.get(connection), at)
    candidate = Router(connection, around, RuleSet(rules=tuple(rules)), at)
    found = Rehearsal(Tally(present.rules.edition), Tally(None))
    for row in _rows(connection, past, at):
        if monotonic() > until:
            return _told(found, present.rules.rules, rules) | {"complete": False}
        of = candidate.subject(row, unstamp(row["filed_at"]))
        found.add(row, present.choose(of), candidate.choose(of))
    return _told(found, present.rules.rules, rules) | {"complete": True}


def _rows(connection: Connection, past: Past, at: datetime) -> Iterator[Mapping[str, Any]]:
    """The cases by their place in the order of change, so that nothing is skipped or read twice, however many there are."""
    since = at - timedelta(days=past.days)
    query = select(*(cases.c[name] for name in COLUMNS)).where(
        cases.c.changed_at >= stamp(since - LEEWAY), cases.c.reported_at >= stamp(since), cases.c.filed_at.is_not(None)
    )
    if past.category:
        query = query.where(or_(cases.c.category == past.category, func.substr(cases.c.category, 1, 3) == past.category))
    query = query.order_by(cases.c.changed_at.desc(), cases.c.id.desc())
    last, left = None, past.limit
    while left > 0:
        beyond = query if last is None else query.where(tuple_(cases.c.changed_at, cases.c.id) < last)
        rows: list[Mapping[str, Any]] = [dict(r) for r in connection.execute(beyond.limit(min(CHUNK, left))).mappings()]
        if not rows:
            return
        yield from rows
        last, left = (rows[-1]["changed_at"], rows[-1]["id"]), left - len(rows)


def _told(found: Rehearsal, before: Sequence[RoutingRule], after: Sequence[RoutingRule]) -> dict[str, Any]:
    changes = [
        {"before": _side(old), "after": _side(new), "cases": kind.cases, "examples": kind.examples}
        for (old, new), kind in sorted(found.changes.items(), key=lambda c: -c[1].cases)
    ]
    broken = [
        {"rule": rule, "zh": zh, "en": en, "cases": kind.cases, "examples": kind.examples}
        for (rule, zh, en), kind in sorted(found.broken.items())
    ]
    differ = sum(kind.cases for kind in found.changes.values())
    return {
        "looked": found.looked, "handled": found.handled, "same": found.looked - differ, "differ": differ,
        "present": found.present.told(before), "candidate": found.candidate.told(after), "changes": changes[:MOST_CHANGES],
        "more_changes": max(0, len(changes) - MOST_CHANGES), "broken": broken,
        "unmatched": {"cases": found.unmatched.cases, "examples": found.unmatched.examples},
    }  # fmt: skip


def _side(outcome: tuple[str | None, bool, tuple[str, ...], bool]) -> dict[str, Any]:
    department, automatic, helping, broken = outcome
    return {"department": department, "automatic": automatic, "helping": list(helping), "broken": broken}
