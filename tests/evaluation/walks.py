"""One case's life as a random walk through the workflow, told in facts: all that the case service states, in a legal order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.base import Fact
from contracts.case import (
    CaseAccepted,
    CaseAmended,
    CaseAppealed,
    CaseClosed,
    CaseDispatched,
    CaseFact,
    CaseFiled,
    CaseHandled,
    CaseLinked,
    CaseMerged,
    CasePostponed,
    CaseRated,
    CaseRefused,
    CaseReopened,
    CaseReported,
    CaseResumed,
    CaseReturned,
    CaseReworked,
    CaseSelfHandled,
    CaseStageEnded,
    CaseSupervised,
    CaseSuspended,
    CaseTaskAnswered,
    CaseTaskAsked,
    CaseUnmerged,
    CaseVoided,
    CaseWithdrawn,
    Place,
)

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
CATEGORIES, ORIGINS = ("E0101", "E0102", "P0101"), ("650102", "650103", "654002", "654003")
PROVENANCES = ("live", "imported", "replayed", "generated")
FINER = {"filed": ("filed", "void_asked"), "dispatched": ("dispatched", "handling", "return_asked", "postpone_review", "done")}
"""By which names of its own an origin may call the state in which a case stands again."""


def division(origin: str, dice: random.Random) -> str:
    """One of the four communities of a demo county."""
    return f"{origin}99{dice.choice('01')}00{dice.choice('12')}"


def told(fact: type[Fact], case: str, at: datetime, **more: Any) -> Any:
    return fact(time=at, day=at.date().isoformat(), case=case, **more)  # type: ignore[call-arg]


@dataclass
class Walk:
    """The case as far as it came; times are whole minutes, so that equal moments are met."""

    case: str
    origin: str
    dice: random.Random
    at: datetime
    state: str = "reported"
    facts: list[CaseFact] = field(default_factory=list)

    def say(self, fact: type[CaseFact], state: str | None = None, /, **more: Any) -> None:
        self.at += timedelta(minutes=self.dice.choice((0, 1, 30, 600, 2000)))
        self.facts.append(told(fact, self.case, self.at, **more))
        self.state = state or self.state

    def later(self) -> datetime:
        """A deadline."""
        return self.at + timedelta(minutes=self.dice.choice((60, 1440, 5000)))

    def place(self) -> Place:
        return Place(lon=87.6, lat=43.7, division=division(self.origin, self.dice), cell=self.dice.choice((None, "C1")))

    def what(self) -> dict[str, Any]:
        part = self.dice.choice((None, "P001"))
        return {"category": self.dice.choice(CATEGORIES), "part": part, "place": self.place()}

    def report(self) -> None:
        more = {"number": f"n{self.case}", "edition": "e", "channel": "hotline", "provenance": self.dice.choice(PROVENANCES)}
        self.facts.append(told(CaseReported, self.case, self.at, **self.what(), **more))

    def verification(self) -> None:
        self.say(CaseTaskAsked, "verifying", task="verification")
        result = self.dice.choice(("exist", "not_exist", "unable", "recalled"))
        self.say(CaseTaskAnswered, "reported", task="verification", result=result)

    def check(self) -> None:
        self.say(CaseTaskAsked, "checking", task="check")
        results = {"pass": "checked", "not_pass": "filed", "unable": "handled", "recalled": "handled"}
        result, state = self.dice.choice(list(results.items()))
        self.say(CaseTaskAnswered, state, task="check", result=result)

    def dispatch(self) -> None:
        self.say(CaseDispatched, "dispatched", department="lamps", due=self.dice.choice((None, self.later())))

    def suspend(self) -> None:
        self.say(CaseSuspended, "suspended", until=self.later())

    def rework(self) -> None:
        self.say(CaseReworked, "dispatched")
        if self.dice.random() < 0.5:
            self.say(CaseResumed, due=self.later())

    def close(self, **forced: Any) -> None:
        on_time = self.dice.random() < 0.5
        self.say(CaseClosed, "closed" if on_time else "late", on_time=on_time, opened=self.facts[0].day, **forced)

    def appeal(self) -> None:
        self.say(CaseAppealed, result="asked")
        self.say(CaseAppealed, "closed", result=self.dice.choice(("granted", "granted", "denied")))

    def merge(self) -> None:
        before, self.state = self.state, "merged"
        self.say(CaseMerged, into="another")
        if self.dice.random() < 0.6:
            self.say(CaseUnmerged, before, state=self.dice.choice(FINER.get(before, (before,))))

    def back(self, origin: str, to: str, state: str) -> None:
        self.say(CaseReturned, state, origin=origin, to=to)

    def rest(self) -> None:
        self.state = "ended"

    def beside(self) -> None:
        """What changes nothing in evaluation."""
        fact, more = self.dice.choice((
            (CaseSupervised, {"answered": True}), (CaseRated, {"score": 2, "by": "visit"}),
            (CaseLinked, {"to": "b", "how": "order"}),
            (CaseStageEnded, {"stage": "handling", "began": self.at, "due": self.at, "on_time": True, "seconds": 0}),
        ))  # fmt: skip
        self.say(fact, **more)


Step = Callable[[Walk], None]


def _file(w: Walk) -> None:
    w.say(CaseFiled, "filed", due=w.later(), condition=w.dice.choice((None, "c1")))


def _amend(w: Walk) -> None:
    w.say(CaseAmended, **w.what())


STEPS: dict[str, tuple[Step, ...]] = {
    "reported": (
        _file, _file, _file, _file, _amend, Walk.verification, Walk.merge, Walk.beside,
        lambda w: w.say(CaseAccepted, "accepted"), lambda w: w.say(CaseAccepted, "accepted"),
        lambda w: w.say(CaseRefused, "ended", reason="other", stage=w.dice.choice((None, "acceptance"))),
        lambda w: w.say(CaseWithdrawn, "ended"), lambda w: w.say(CaseSelfHandled, "ended"),
    ),
    "accepted": (
        _file, _file, _file, _file, _file, _amend, Walk.merge, lambda w: w.back("filing", "acceptance", "reported"),
        lambda w: w.say(CaseRefused, "ended", reason="other", stage="filing"), lambda w: w.say(CaseWithdrawn, "ended"),
    ),
    "filed": (
        Walk.dispatch, Walk.dispatch, Walk.dispatch, Walk.dispatch, Walk.dispatch, Walk.dispatch, Walk.merge,
        lambda w: w.back("dispatch", "filing", "accepted"), lambda w: w.say(CaseVoided, "ended"),
    ),
    "dispatched": (
        *(lambda w: w.say(CaseHandled, "handled"),) * 7, lambda w: w.back("handling", "dispatch", "filed"), Walk.suspend,
        Walk.suspend, lambda w: w.say(CasePostponed, due=w.later()), Walk.merge, Walk.beside, lambda w: w.close(forced=True),
    ),
    "suspended": (
        *(lambda w: w.say(CaseResumed, "dispatched", due=w.later()),) * 6, Walk.rest, Walk.merge,
        lambda w: w.close(forced=True),
    ),
    "handled": (Walk.close, Walk.close, Walk.check, Walk.check, Walk.check, Walk.check, Walk.rework, Walk.merge),
    "checked": (Walk.close, Walk.close, Walk.close, lambda w: w.back("closing", "dispatch", "filed"), Walk.merge),
    "late": (Walk.appeal, Walk.appeal, Walk.rest, Walk.beside, lambda w: w.say(CaseReopened, "accepted")),
    "closed": (Walk.rest, Walk.rest, Walk.rest, Walk.beside, lambda w: w.say(CaseReopened, "accepted")),
    "merged": (),
    "ended": (),
}  # fmt: skip
"""What may come next in each state of the walk; `late` is a case closed overdue that may still appeal."""


def life(case: str, origin: str, dice: random.Random) -> list[CaseFact]:
    """A case from its report as far as it came."""
    walk = Walk(case, origin, dice, BEGIN + timedelta(minutes=dice.randrange(0, 6 * 1440)))
    walk.report()
    while STEPS[walk.state] and dice.random() < 0.93:
        dice.choice(STEPS[walk.state])(walk)
    # A walk that stopped in the middle of a task is met, too.
    return walk.facts[: len(walk.facts) - (dice.random() < 0.1)] or walk.facts
