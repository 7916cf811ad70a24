"""A second, slower reckoning of a case beside the real one: time used on each clock, and what evaluation should make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from contracts.base import Fact
from contracts.case import CaseReported
from services.case import domain
from services.case.limits import Limit
from services.case.policy import Policy
from services.case.worktime import WorkCalendar, used
from services.evaluation import domain as evaluation
from shared.clock import stamp, unstamp

SECOND = timedelta(seconds=1)
SEEN_AS: dict[str, str] = {
    "self_handled": "reported", "void_asked": "filed", **dict.fromkeys(domain.WITH_DEPARTMENT, "dispatched"),
    "suspended": "suspended", "forced": "closed", "appealed": "closed", "appeal_review": "closed",
}  # fmt: skip
"""What evaluation calls the states for which it has no word of its own."""
NO_DEADLINE = {("accepted", "send_back"), ("filed", "send_back"), ("checked", "send_back"), ("checking", "fail_check"),
               ("return_asked", "grant"), ("suspend_asked", "grant"), ("closed", "reopen")}  # fmt: skip
"""Steps after which no department's time runs, as far as facts tell."""


@dataclass
class Used:
    """What was used of a limit: a sum over the stretches in which the clock ran."""

    limit: Limit
    budget: timedelta
    spent: timedelta = timedelta(0)
    since: datetime | None = None

    def stop(self, calendar: WorkCalendar, at: datetime) -> None:
        if self.since is not None:
            self.spent += used(calendar, self.since, at, self.limit.unit)
            self.since = None


@dataclass
class Shadow:
    """One case as the table and the facts say that it is."""

    calendar: WorkCalendar
    policy: Policy
    state: str
    at: datetime
    clocks: dict[str, Used] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    """Clocks that a merging stopped."""
    version: int = 1
    folded: dict[str, Any] = field(default_factory=dict)
    deadline: bool = False
    """Whether evaluation should know of one."""

    def start(self, stage: str, limit: str, at: datetime) -> None:
        parsed = Limit.parse(limit)
        self.clocks[stage] = Used(parsed, parsed.span, since=at)

    def take(self, step: domain.Step, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Follow a step of the table from one row to the next."""
        at = unstamp(after["last_at"])
        if step.action == "file":
            self.clocks.pop("handling", None)
        for stage, effect in step.clocks:
            self._turn(stage, effect, before, after, at)
        if step.action in ("merge", "join"):
            self.stopped = [stage for stage, c in self.clocks.items() if c.since is not None]
            for stage in self.stopped:
                self.clocks[stage].stop(self.calendar, at)
        if step.action == "unmerge":
            for stage in self.stopped:
                self.clocks[stage].since = at
            self.deadline |= "handling" in self.stopped
        if (step.source, step.action) == ("postpone_review", "grant"):
            self.clocks["handling"].budget += self.clocks["handling"].limit.span
        self._deadline(step)
        self.state, self.at, self.version = after["state"], at, self.version + 1

    def _turn(self, stage: str, effect: str, before: Mapping[str, Any], after: Mapping[str, Any], at: datetime) -> None:
        there = self.clocks.get(stage)
        another = effect == "continue" and (there is None or before["department"] != after["department"])
        if effect == "start" or another:
            self.start(stage, after["limit"] if stage == "handling" else self.policy.stages[stage], at)  # type: ignore[index]
        elif there is not None and effect in ("hold", "end"):
            there.stop(self.calendar, at)
        elif there is not None:
            there.since = at

    def _deadline(self, step: domain.Step) -> None:
        if (step.source, step.action) in NO_DEADLINE:
            self.deadline = False
        elif step.action in ("file", "dispatch", "resume", "rework") or (step.source, step.action) == ("return_asked", "deny"):
            self.deadline = True

    def hear(self, stated: Iterable[Fact]) -> None:
        """Fold facts as evaluation does, at whatever tier."""
        for fact in stated:
            if isinstance(fact, CaseReported):
                self.folded = evaluation.reported("99", fact)
            else:
                self.folded = evaluation.change(self.folded, fact)

    def compare(self, row: Mapping[str, Any]) -> None:
        """Fails where the real case, or what evaluation makes of its facts, is another one."""
        assert (row["state"], row["version"]) == (self.state, self.version)
        assert (row["stage"], unstamp(row["last_at"])) == (domain.STAGE_OF.get(row["state"]), self.at)
        kept = row["clocks"]
        assert kept.keys() == self.clocks.keys()
        for stage, clock in self.clocks.items():
            self._compare_clock(stage, clock, kept[stage])
        running = [stage for stage, c in self.clocks.items() if c.since is not None]
        if self.state in domain.OPEN - {"suspended", "return_asked", "void_asked"}:
            assert running == [row["stage"]], "of an open case just one clock runs, but where the work stands still"
        else:
            assert running == []
        shown = kept[row["stage"]] if running else {"warn": None, "due": None}
        assert (row["warn_at"], row["late_at"]) == (shown["warn"], shown["due"])
        if "handling" in kept:
            assert row["due_at"] == kept["handling"]["due"]
        self._compare_folded(row)

    def _compare_clock(self, stage: str, clock: Used, kept: Mapping[str, Any]) -> None:
        unit, due, warn = clock.limit.unit, unstamp(kept["due"]), unstamp(kept["warn"])
        assert ("held" in kept or "ended" in kept) == (clock.since is None), stage
        assert warn <= due
        if clock.since is not None:
            whole = clock.spent + used(self.calendar, clock.since, due, unit)
            green = clock.spent + used(self.calendar, clock.since, warn, unit)
            assert abs(whole - clock.budget) < SECOND, f"{stage}: {whole} of {clock.budget} are used by the deadline"
            assert abs(green - clock.budget * self.policy.yellow) < SECOND, stage

    def _compare_folded(self, row: Mapping[str, Any]) -> None:
        found = self.folded
        assert found["state"] == SEEN_AS.get(row["state"], row["state"])
        assert found["due_at"] == (row["due_at"] if self.deadline else None)
        for name in ("filed_at", "handled_at", "on_time", "category", "division", "cell"):
            assert found[name] == row[name], name
        if row["state"] in ("dispatched", "closed", "handled"):
            assert found["department"] == row["department"]
        assert found["open"] == (SEEN_AS.get(row["state"], row["state"]) in evaluation.OPEN)
        assert (found["ended_at"] is None) == (row["ended_at"] is None)
        counted = {mark[0] for mark in (found["counted"][n : n + 11] for n in range(0, len(found["counted"]), 11))}
        assert ("C" in counted) == (row["on_time"] is not None), "a closing counts while it stands"


def light(row: Mapping[str, Any], at: datetime) -> str | None:
    """The colour that a case should show."""
    if row["late_at"] is None:
        return None
    return "green" if stamp(at) <= row["warn_at"] else "yellow" if stamp(at) <= row["late_at"] else "red"
