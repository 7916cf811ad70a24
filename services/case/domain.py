"""Rules of a case: the workflow as a table and the deadline; values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.errors import Conflict, Forbidden

State = Literal["reported", "refused", "filed", "dispatched", "handled", "closed"]
Action = Literal["file", "refuse", "dispatch", "handle", "rework", "close"]

STATES: tuple[State, ...] = ("reported", "refused", "filed", "dispatched", "handled", "closed")
ACTIONS: tuple[Action, ...] = ("file", "refuse", "dispatch", "handle", "rework", "close")
OPEN: frozenset[str] = frozenset({"filed", "dispatched", "handled"})


@dataclass(frozen=True)
class Step:
    """One row of the workflow: who may do what in which state, what becomes of the case and of its clock."""

    source: State
    action: Action
    target: State
    roles: frozenset[str]
    clock: Literal["none", "starts", "runs", "ends"]
    zh: str


def _step(source: State, action: Action, target: State, roles: str, clock: str, zh: str) -> Step:
    return Step(source, action, target, frozenset(roles.split()), clock, zh)  # type: ignore[arg-type]


WORKFLOW: tuple[Step, ...] = (
    _step("reported", "file", "filed", "shift_supervisor integrator", "starts", "立案"),
    _step("reported", "refuse", "refused", "acceptor shift_supervisor integrator", "none", "不予受理"),
    _step("filed", "dispatch", "dispatched", "dispatcher integrator", "runs", "派遣"),
    _step("dispatched", "handle", "handled", "department integrator", "ends", "处置反馈"),
    _step("handled", "rework", "dispatched", "checker dispatcher integrator", "runs", "返工"),
    _step("handled", "close", "closed", "shift_supervisor integrator", "ends", "结案"),
)
_BY_PAIR = {(s.source, s.action): s for s in WORKFLOW}


def allowed(state: State, roles: frozenset[str]) -> list[Action]:
    """What somebody with `roles` may do now."""
    return [s.action for s in WORKFLOW if s.source == state and s.roles & roles]


def step(state: State, action: Action, roles: frozenset[str]) -> Step:
    """The row for this action. Raises Conflict where the state has no such action, Forbidden where the role lacks it."""
    found = _BY_PAIR.get((state, action))
    if found is None:
        possible = [s.action for s in WORKFLOW if s.source == state]
        raise Conflict(f"a case that is {state} cannot {action}", field="/action", allowed=possible, state=state)
    if not found.roles & roles:
        raise Forbidden(f"to {action} needs one of: {', '.join(sorted(found.roles))}")
    return found


def deadline(filed: datetime, limit_hours: float) -> datetime:
    """Deadline of a limit in elapsed hours (紧急工作时): it runs on at night and on holidays."""
    return filed + timedelta(hours=limit_hours)


def on_time(handled: datetime, due: datetime) -> bool:
    """The department's feedback counts, not the closing after it; the last moment is still on time."""
    return handled <= due
