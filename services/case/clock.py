"""The clock of a stage of a case 时限计时: started, paused, moved, ended, its light and its deadline; values in, values out.

A clock holds instants that were fixed when they were decided: a calendar that changes later moves no deadline by itself. Whether
an operation is allowed at all (who may postpone, how often) is the workflow's affair; a clock refuses only what cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from services.case import explanation
from services.case.limits import Limit, Unit
from services.case.worktime import MICRO, WorkCalendar, due, shift, used
from shared.clock import stamp, unstamp
from shared.errors import Conflict, Invalid

Light = Literal["green", "yellow", "red"]
Cause = Literal["paused", "extended", "restarted", "reopened"]


@dataclass(frozen=True)
class Move:
    """Why a deadline moved: what was decided at `at`, from which to which deadline.

    `since` is when the pause began, or when the clock had ended that was reopened; `limit` that of an extension or restart.
    """

    code: Cause
    at: datetime
    before: datetime
    after: datetime
    since: datetime | None = None
    limit: Limit | None = None


@dataclass(frozen=True)
class Clock:
    """One stage's clock. `limit` is None where the deadline was given from outside; `warn` is when the light turns yellow.

    `yellow` is the share of the limit that is green. While `held` is set the clock stands still; a clock that ended while it
    stood still keeps both instants.
    """

    limit: Limit | None
    began: datetime
    due: datetime
    warn: datetime
    yellow: float = 0.8
    held: datetime | None = None
    ended: datetime | None = None
    moves: tuple[Move, ...] = ()

    @property
    def unit(self) -> Unit:
        """The kind of time that counts; a deadline from outside is counted in real hours."""
        return self.limit.unit if self.limit else "UH"

    @property
    def story(self) -> tuple[Move, ...]:
        """The moves since it began, without those before it was last restarted."""
        anew = max((n for n, m in enumerate(self.moves, 1) if m.code == "restarted"), default=0)
        return self.moves[anew:]

    def moment(self, at: datetime) -> datetime:
        """The moment at which this clock stands when everybody else's show `at`."""
        return self.held or self.ended or at


def start(calendar: WorkCalendar, limit: Limit, at: datetime, yellow: float = 0.8) -> Clock:
    """A clock that begins at `at`. Raises Unannounced, and Invalid for a share that is none."""
    _share(yellow)
    at = at.astimezone(UTC)
    return Clock(limit, at, due(calendar, at, limit), shift(calendar, at, limit.span * yellow, limit.unit), yellow)


def until(deadline: datetime, at: datetime, yellow: float = 0.8) -> Clock:
    """A clock with a deadline from outside, such as an order's reply-by; one that begins too late is red from the start."""
    _share(yellow)
    deadline, at = deadline.astimezone(UTC), at.astimezone(UTC)
    return Clock(None, at, deadline, min(deadline, at + max(deadline - at, timedelta(0)) * yellow), yellow)


def hold(clock: Clock, at: datetime) -> Clock:
    """Stop it for a while 挂账, 回退. Raises Conflict where it does not run, Invalid for a time before it began."""
    _runs(clock, "hold")
    return replace(clock, held=_after(clock.began, at))


def resume(calendar: WorkCalendar, clock: Clock, at: datetime) -> Clock:
    """Go on after a pause: the deadline moves by the paused time, in work time for a limit in work time.

    Raises Conflict where it is not held, Invalid for a time before the pause, Unannounced.
    """
    if clock.held is None or clock.ended is not None:
        raise Conflict("this clock is not paused", field="/action")
    return _moved(calendar, clock, clock.held, at, "paused")


def reopen(calendar: WorkCalendar, clock: Clock, at: datetime) -> Clock:
    """Let an ended clock run again 返工 with the time that it had left; the time between does not count. Raises as `resume`."""
    if clock.ended is None:
        raise Conflict("this clock has not ended", field="/action")
    return _moved(calendar, clock, clock.moment(at), at, "reopened")


def extend(calendar: WorkCalendar, clock: Clock, limit: Limit, at: datetime) -> Clock:
    """Postpone 延期: the deadline is later by `limit`, the clock runs on. Raises Conflict where it has ended, Unannounced."""
    if clock.ended is not None:
        raise Conflict("this clock has ended", field="/action")
    at = _after(clock.began, at)
    later = shift(calendar, clock.due, limit.span, limit.unit)
    warn = min(later, shift(calendar, clock.warn, limit.span * clock.yellow, limit.unit))
    moved = Move("extended", at, clock.due, later, limit=limit)
    return replace(clock, due=later, warn=warn, moves=(*clock.moves, moved))


def end(clock: Clock, at: datetime) -> Clock:
    """The stage is done. Raises Conflict where it is already, Invalid for a time before it began or was paused."""
    if clock.ended is not None:
        raise Conflict("this clock has ended", field="/action")
    return replace(clock, ended=_after(clock.held or clock.began, at))


def restart(calendar: WorkCalendar, clock: Clock, at: datetime, limit: Limit | None = None) -> Clock:
    """Begin anew with the whole limit, as for another department; with another limit where one is given.

    A deadline from outside stays what it is unless a limit is given. Raises Unannounced, Invalid for a time before it began.
    """
    at = _after(clock.began, at)
    wanted = limit or clock.limit
    fresh = start(calendar, wanted, at, clock.yellow) if wanted else until(clock.due, at, clock.yellow)
    moved = Move("restarted", at, clock.due, fresh.due, limit=limit)
    return replace(fresh, moves=(*clock.moves, moved))


def light(clock: Clock | None, at: datetime) -> Light | None:
    """Green up to the warning and at it, yellow up to the deadline and at it, red beyond; None without a clock."""
    if clock is None:
        return None
    moment = clock.moment(at)
    return "green" if moment <= clock.warn else "yellow" if moment <= clock.due else "red"


def on_time(clock: Clock | None) -> bool | None:
    """Whether the stage ended in time, the last moment included; None while it goes on. Without a clock nothing is late."""
    if clock is None:
        return True
    return None if clock.ended is None else clock.moment(clock.ended) <= clock.due


def left(calendar: WorkCalendar, clock: Clock, at: datetime) -> timedelta:
    """What is left of the limit in its own kind of time; below zero beyond the deadline. Raises Unannounced."""
    return used(calendar, clock.moment(at), clock.due, clock.unit)


def explain(calendar: WorkCalendar, clock: Clock, at: datetime) -> dict[str, str]:
    """The deadline and why it is that, in words: {"zh": ..., "en": ...}, times in the calendar's zone."""
    told = clock.story
    words = [explanation.anew(calendar, clock.began)] if len(told) < len(clock.moves) else []
    words.append(explanation.beginning(calendar, clock.limit, clock.began, told[0].before if told else clock.due))
    words += [explanation.move(calendar, m.code, m.at, m.since, m.limit, m.after) for m in told]
    if clock.ended is not None:
        words.append(explanation.ended(calendar, clock.ended, bool(on_time(clock))))
    elif clock.held is not None:
        words.append(explanation.held(calendar, clock.held))
    elif at > clock.began:
        words.append(explanation.remaining(calendar, at, clock.due, clock.unit))
    return explanation.together(words)


def as_json(clock: Clock) -> dict[str, Any]:
    """Compact and stable: what is not set is left out, instants as text."""
    whole = {
        "limit": str(clock.limit) if clock.limit else None, "began": stamp(clock.began), "due": stamp(clock.due),
        "warn": stamp(clock.warn), "yellow": clock.yellow, "held": _text(clock.held), "ended": _text(clock.ended),
        "moves": [_move(m) for m in clock.moves] or None,
    }  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def of_json(found: dict[str, Any]) -> Clock:
    """The clock that `as_json` wrote."""
    return Clock(
        Limit.parse(found["limit"]) if "limit" in found else None,
        unstamp(found["began"]), unstamp(found["due"]), unstamp(found["warn"]), found["yellow"],
        _instant(found.get("held")), _instant(found.get("ended")),
        tuple(
            Move(m["code"], unstamp(m["at"]), unstamp(m["before"]), unstamp(m["after"]), _instant(m.get("since")),
                 Limit.parse(m["limit"]) if "limit" in m else None)
            for m in found.get("moves", [])
        ),
    )  # fmt: skip


def _move(move: Move) -> dict[str, Any]:
    whole = {
        "code": move.code, "at": stamp(move.at), "before": stamp(move.before), "after": stamp(move.after),
        "since": _text(move.since), "limit": str(move.limit) if move.limit else None,
    }  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def _text(at: datetime | None) -> str | None:
    return stamp(at) if at else None


def _instant(text: str | None) -> datetime | None:
    return unstamp(text) if text else None


def _moved(calendar: WorkCalendar, clock: Clock, since: datetime, at: datetime, code: Cause) -> Clock:
    """The clock that goes on at `at` after it stood still from `since`."""
    at = _after(since, at)
    pause = used(calendar, since, at, clock.unit)
    later, warn = (_later(calendar, instant, since, at, pause, clock.unit) for instant in (clock.due, clock.warn))
    moved = Move(code, at, clock.due, later, since=since)
    return replace(clock, due=later, warn=min(warn, later), held=None, ended=None, moves=(*clock.moves, moved))


def _later(calendar: WorkCalendar, instant: datetime, since: datetime, at: datetime, pause: timedelta, unit: Unit) -> datetime:
    """`instant` moved by the pause. What had passed before the pause has passed after it, and what had not has not: work time
    alone does not say so of a pause that begins or ends at night."""
    moved = shift(calendar, instant, pause, unit)
    return min(moved, at - MICRO) if since > instant else max(moved, at)


def _share(yellow: float) -> None:
    if not 0 < yellow <= 1:
        raise Invalid("the share of the limit that is green lies above 0 and is at most 1", field="/yellow")


def _runs(clock: Clock, what: str) -> None:
    if clock.held is not None or clock.ended is not None:
        state = "has ended" if clock.ended is not None else "is paused"
        raise Conflict(f"cannot {what} a clock that {state}", field="/action")


def _after(earlier: datetime, at: datetime) -> datetime:
    """`at` in UTC, because arithmetic in other zones is that of the clock on the wall. Raises Invalid where it is earlier."""
    at = at.astimezone(UTC)
    if at < earlier:
        raise Invalid(f"this cannot be before {stamp(earlier)}", field="/time")
    return at
