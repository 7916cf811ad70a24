"""What a step does to the clocks of a case: each stage has one, and the handling's is the deadline of the case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from contracts.case import Stage
from services.case import clock, domain
from services.case.clock import Clock
from services.case.policy import Policy
from services.case.worktime import Limit, WorkCalendar, shift, used
from shared.clock import stamp


@dataclass
class Clocks:
    """The clocks of one case while a step is taken; the step ended those in `ended`, and `moved` its deadline."""

    calendar: WorkCalendar
    policy: Policy
    at: datetime
    running: dict[Stage, Clock]
    ended: dict[Stage, Clock] = field(default_factory=dict)
    moved: bool = False

    @classmethod
    def of(cls, calendar: WorkCalendar, policy: Policy, at: datetime, kept: Mapping[str, Any] | None) -> Clocks:
        return cls(calendar, policy, at, {stage: clock.of_json(c) for stage, c in (kept or {}).items()})  # type: ignore[misc]

    def turn(self, effects: Iterable[tuple[Stage, domain.Effect]], limit: str, *, known: bool) -> None:
        """Apply the effects of one step. `limit` is the handling's; `known`: the department had the case already."""
        for stage, effect in effects:
            there = self.running.get(stage)
            if effect == "start" or (effect == "continue" and there is None):
                self.start(stage, limit if stage == "handling" else self.policy.stages[stage])
            elif there is None:
                # A platform's case was reported without clocks of ours; what never began does not end either.
                continue
            elif effect == "end" and there.ended is None:
                self.running[stage] = self.ended[stage] = clock.end(there, self.at)
            elif effect == "hold" and there.held is None and there.ended is None:
                self.running[stage] = clock.hold(there, self.at)
            elif effect == "continue" and not known:
                self.running[stage] = clock.restart(self.calendar, there, self.at, Limit.parse(limit))
                self.moved |= stage == "handling"
            elif effect in ("resume", "continue"):
                self.resume(stage)

    def start(self, stage: Stage, limit: str) -> None:
        self.running[stage] = clock.start(self.calendar, Limit.parse(limit), self.at, self.policy.yellow)
        self.moved |= stage == "handling"

    def resume(self, stage: Stage) -> None:
        """Let a clock that stands, or that had ended with a feedback that was not good enough, go on with what was left."""
        there = self.running[stage]
        if there.ended is not None:
            self.running[stage] = clock.reopen(self.calendar, there, self.at)
        elif there.held is not None:
            self.running[stage] = clock.resume(self.calendar, there, self.at)
        self.moved |= stage == "handling"

    def extend(self) -> None:
        """Put the handling's deadline off by the limit it had at first 延期."""
        there = self.running.get("handling")
        if there is not None and there.limit is not None:
            self.running["handling"] = clock.extend(self.calendar, there, there.limit, self.at)
            self.moved = True

    def hold_all(self) -> list[Stage]:
        """Stop every clock that runs; answers which, so that just these can go on again."""
        running = [stage for stage, c in self.running.items() if c.held is None and c.ended is None]
        for stage in running:
            self.running[stage] = clock.hold(self.running[stage], self.at)
        return running

    @property
    def due(self) -> datetime | None:
        """The deadline of the handling, where it has a clock here."""
        there = self.running.get("handling")
        return there.due if there else None

    def columns(self, state: domain.State) -> dict[str, Any]:
        """What the row of a case that comes to `state` keeps of its clocks."""
        stage = domain.STAGE_OF.get(state)
        now = self.running.get(stage) if stage else None
        ticking = now is not None and now.held is None and now.ended is None
        found: dict[str, Any] = {
            "clocks": {s: clock.as_json(c) for s, c in self.running.items()} or None,
            "stage": stage,
            "warn_at": stamp(now.warn) if now and ticking else None,
            "late_at": stamp(self._late(now)) if now and ticking else None,
        }
        return found | ({"due_at": stamp(self.due)} if self.moved and self.due else {})

    def _late(self, running: Clock) -> datetime:
        """When the light turns red: at the deadline, or where the policy is patient so much of the limit later."""
        if self.policy.red == 1 or running.limit is None:
            return running.due
        return shift(self.calendar, running.due, running.limit.span * (self.policy.red - 1), running.unit)

    def spent(self, running: Clock) -> timedelta:
        """What was used of the limit and its extensions, in the limit's own kind of time; pauses do not count."""
        moment = running.moment(self.at)
        if running.limit is None:
            return used(self.calendar, running.began, moment, running.unit)
        more = [m.limit.span for m in running.story if m.code == "extended" and m.limit]
        return running.limit.span + sum(more, timedelta(0)) - clock.left(self.calendar, running, moment)

    def told(self) -> dict[str, Any] | None:
        """What the timeline says of the clocks: the stages that ended, and the deadline where it moved."""
        found: dict[str, Any] = {
            stage: {"seconds": self.seconds(c), "due": stamp(c.due), "on_time": bool(clock.on_time(c))}
            for stage, c in self.ended.items()
        }
        return found | ({"moved_to": stamp(self.due)} if self.moved and self.due else {}) or None

    def seconds(self, running: Clock) -> int:
        return max(0, int(self.spent(running).total_seconds()))
