"""The workflow of a case as one table: states, actions, roles, guards, what an action must say, what it does to the clocks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from contracts.case import Stage
from shared.errors import Conflict, Forbidden

State = Literal[
    "reported", "verifying", "accepted", "filed", "void_asked", "dispatched", "return_asked", "handling", "postpone_asked",
    "postpone_review", "suspend_asked", "suspended", "done", "handled", "checking", "checked", "self_handled",
    "refused", "declined", "withdrawn", "void", "closed", "forced", "merged", "appealed", "appeal_review",
]  # fmt: skip
Action = Literal[
    "ask_verification", "verify", "recall", "amend", "accept", "refuse", "file", "decline", "send_back", "dispatch", "ask_void",
    "grant", "deny", "assign", "unassign", "ask_return", "ask_postponement", "endorse", "ask_suspension", "resume", "finish",
    "reject", "handle", "rework", "ask_check", "pass_check", "fail_check", "close", "supervise", "reply_supervision",
    "force_close", "appeal", "reopen", "withdraw", "merge", "join", "unmerge", "split",
]  # fmt: skip
Effect = Literal["start", "hold", "resume", "end", "continue"]
Clocks = tuple[tuple[Stage, Effect], ...]

STATES: tuple[State, ...] = get_args(State)
ACTIONS: tuple[Action, ...] = get_args(Action)
BEFORE_FILING: tuple[State, ...] = ("reported", "verifying", "accepted")
WITH_DEPARTMENT: tuple[State, ...] = (
    "dispatched", "return_asked", "handling", "postpone_asked", "postpone_review", "suspend_asked", "suspended", "done",
)  # fmt: skip
FILED: tuple[State, ...] = ("filed", "void_asked", *WITH_DEPARTMENT, "handled", "checking", "checked")
OPEN: frozenset[State] = frozenset((*BEFORE_FILING, *FILED, "self_handled"))
"""Somebody has work to do; everything else is an end, though an appeal or a reporter may still move some of them."""

STAGE_OF: dict[State, Stage] = {
    "reported": "acceptance", "self_handled": "acceptance", "verifying": "verification", "accepted": "filing",
    "filed": "dispatch", "void_asked": "dispatch", **dict.fromkeys(WITH_DEPARTMENT, "handling"), "handled": "closing",
    "checking": "check", "checked": "closing",
}  # fmt: skip
"""Whose clock counts while a case is in a state."""

PERSONS = frozenset({"reporter", "timer"})
"""Roles that no token gives: whoever shows a tracking code, and the node's own timers."""


@dataclass(frozen=True)
class Step:
    """One row: who may do what in which state, what becomes of the case and of its clocks.

    `target`: None stays where it is; "before" goes back to where the case stood when something was asked for. `guards` are
    named in `guards.py`; `needs` are the fields of the action that must be filled. `clocks`: "continue" resumes the handling of a
    department that had the case already and starts it for another one.
    """

    source: State
    action: Action
    target: State | Literal["before"] | None
    roles: frozenset[str]
    clocks: Clocks
    guards: tuple[str, ...]
    needs: tuple[str, ...]
    zh: str
    en: str


SIGNS: dict[str, Effect] = {"+": "start", "~": "hold", ">": "resume", "-": "end", "*": "continue"}


def _row(
    source: str, action: str, target: str | None, roles: str, clocks: str, zh: str, en: str, *, guards: str = "", needs: str = ""
) -> Step:
    effects = tuple((c[1:], SIGNS[c[0]]) for c in clocks.split())
    return Step(
        source, action, target, frozenset(roles.split()), effects, tuple(guards.split()), tuple(needs.split()), zh, en  # type: ignore[arg-type]
    )  # fmt: skip


def _everywhere(states: tuple[State, ...], *row: str | None, needs: str = "", guards: str = "") -> tuple[Step, ...]:
    return tuple(_row(s, *row, needs=needs, guards=guards) for s in states)  # type: ignore[arg-type]


_DONE = "my_department"
WORKFLOW: tuple[Step, ...] = (
    _row("reported", "ask_verification", "verifying", "acceptor", "~acceptance +verification", "发核实", "ask for verification"),
    _row("verifying", "verify", "reported", "collector", "-verification >acceptance", "核实反馈", "answer the verification",
         needs="result"),
    _row("verifying", "recall", "reported", "acceptor", "-verification >acceptance", "撤回核实", "take the task back"),
    _row("reported", "accept", "accepted", "acceptor", "-acceptance +filing", "受理批转", "take up", guards="verified"),
    _row("reported", "refuse", "refused", "acceptor shift_supervisor integrator", "-acceptance", "不予受理", "refuse",
         needs="reason"),
    _row("reported", "file", "filed", "shift_supervisor integrator", "-acceptance +dispatch", "立案", "file", guards="verified",
         needs="condition"),
    _row("accepted", "file", "filed", "shift_supervisor", "-filing +dispatch", "立案", "file", needs="condition"),
    _row("accepted", "decline", "declined", "shift_supervisor", "-filing", "不予立案", "decline to file", needs="reason"),
    _row("accepted", "send_back", "reported", "shift_supervisor", "-filing +acceptance", "退回", "send back", needs="opinion"),
    _row("filed", "dispatch", "dispatched", "dispatcher integrator", "-dispatch *handling", "派遣", "dispatch",
         guards="not_given_back", needs="department"),
    _row("filed", "send_back", "accepted", "dispatcher", "-dispatch +filing", "退回", "send back", needs="opinion"),
    _row("filed", "ask_void", "void_asked", "dispatcher", "~dispatch", "申请作废", "ask to void", needs="opinion"),
    _row("void_asked", "grant", "void", "shift_supervisor", "-dispatch", "同意作废", "agree to void"),
    _row("void_asked", "deny", "filed", "shift_supervisor", ">dispatch", "不同意作废", "do not void", needs="opinion"),
    _row("dispatched", "assign", "handling", "department", "", "指派", "assign", guards=_DONE, needs="handler"),
    _row("handling", "unassign", "dispatched", "department", "", "收回指派", "take the assignment back", guards=_DONE),
    _row("dispatched", "ask_return", "return_asked", "department", "~handling", "申请回退", "give back", guards=_DONE,
         needs="opinion"),
    _row("return_asked", "grant", "filed", "dispatcher", "+dispatch", "同意回退", "take it back"),
    _row("return_asked", "deny", "dispatched", "dispatcher", ">handling", "不同意回退", "leave it there", needs="opinion"),
    _row("dispatched", "ask_postponement", "postpone_review", "department", "", "申请延期", "ask for more time",
         guards="my_department not_overdue postponable", needs="opinion"),
    _row("handling", "ask_postponement", "postpone_asked", "handler department", "", "申请延期", "ask for more time",
         guards="my_department mine not_overdue postponable", needs="opinion"),
    _row("postpone_asked", "endorse", "postpone_review", "department", "", "部门同意延期", "support more time", guards=_DONE),
    _row("postpone_asked", "deny", "before", "department", "", "部门不同意延期", "do not support more time", guards=_DONE,
         needs="opinion"),
    _row("postpone_review", "grant", "before", "dispatcher", "", "同意延期", "grant more time"),
    _row("postpone_review", "deny", "before", "dispatcher", "", "不同意延期", "refuse more time", needs="opinion"),
    _row("dispatched", "ask_suspension", "suspend_asked", "department", "", "申请挂账", "ask to suspend",
         guards="my_department suspendable", needs="opinion until"),
    _row("handling", "ask_suspension", "suspend_asked", "handler department", "", "申请挂账", "ask to suspend",
         guards="my_department mine suspendable", needs="opinion until"),
    _row("suspend_asked", "grant", "suspended", "dispatcher", "~handling", "同意挂账", "suspend"),
    _row("suspend_asked", "deny", "before", "dispatcher", "", "不同意挂账", "do not suspend", needs="opinion"),
    _row("suspended", "resume", "dispatched", "dispatcher timer", ">handling", "恢复", "resume"),
    _row("handling", "finish", "done", "handler department", "", "处置完成", "finish", guards="my_department mine after_photo",
         needs="opinion"),
    _row("done", "reject", "handling", "department", "", "打回", "hand back to the handler", guards=_DONE, needs="opinion"),
    _row("done", "handle", "handled", "department", "-handling +closing", "反馈", "feed back", guards=_DONE),
    _row("dispatched", "handle", "handled", "department integrator", "-handling +closing", "反馈", "feed back",
         guards="my_department after_photo"),
    _row("handled", "rework", "dispatched", "dispatcher integrator", "-closing >handling", "返工", "send to rework",
         needs="opinion"),
    _row("handled", "ask_check", "checking", "acceptor", "~closing +check", "发核查", "ask for a check"),
    _row("handled", "close", "closed", "integrator", "-closing", "结案", "close", guards="its_own"),
    _row("checking", "pass_check", "checked", "collector checker", "-check >closing", "核查通过", "pass", guards="not_a_hand"),
    _row("checking", "fail_check", "filed", "collector checker", "-check -closing +dispatch", "核查不通过", "do not pass",
         guards="not_a_hand", needs="opinion"),
    _row("checking", "recall", "handled", "acceptor collector checker", "-check >closing", "无法核查或撤回", "cannot be checked",
         needs="opinion"),
    _row("checked", "close", "closed", "shift_supervisor", "-closing", "结案", "close", guards="checked_by_another",
         needs="means closing"),
    _row("checked", "send_back", "filed", "shift_supervisor", "-closing +dispatch", "退回", "send back", needs="opinion"),
    _row("self_handled", "grant", "closed", "acceptor", "-acceptance", "自处理结案", "recognise"),
    _row("self_handled", "deny", "refused", "acceptor", "-acceptance", "自处理无效", "do not recognise", needs="opinion"),
    _row("closed", "appeal", "appealed", "department", "", "申诉", "appeal", guards="my_department was_overdue not_appealed",
         needs="opinion"),
    _row("appealed", "endorse", "appeal_review", "dispatcher", "", "申诉初审同意", "support the appeal"),
    _row("appealed", "deny", "closed", "dispatcher", "", "申诉初审不同意", "deny the appeal", needs="opinion"),
    _row("appeal_review", "grant", "closed", "acceptor", "", "申诉终审同意", "grant the appeal", guards="other_reviewer"),
    _row("appeal_review", "deny", "closed", "acceptor", "", "申诉终审不同意", "deny the appeal", guards="other_reviewer",
         needs="opinion"),
    _row("closed", "reopen", "accepted", "reporter", "+filing", "要求重办", "reopen", guards="reopenable", needs="opinion"),
    _row("merged", "unmerge", "before", "acceptor shift_supervisor dispatcher", "", "撤销并案", "undo the merging"),
    _row("reported", "join", "merged", "reporter", "", "我也遇到", "me too", needs="into"),
    *_everywhere(BEFORE_FILING, "withdraw", "withdrawn", "reporter", "-acceptance -verification -filing", "撤回上报", "withdraw"),
    *_everywhere(("reported", "accepted"), "amend", None, "acceptor shift_supervisor", "", "更正", "correct"),
    *_everywhere(("reported", "accepted", "filed"), "split", None, "acceptor shift_supervisor dispatcher", "", "拆分", "split",
                 needs="parts"),
    *_everywhere((*BEFORE_FILING, *FILED), "merge", "merged", "acceptor shift_supervisor dispatcher", "", "并案", "merge",
                 needs="into"),
    *_everywhere((*BEFORE_FILING, *FILED), "supervise", None, "leader administrator", "", "督办", "supervise",
                 needs="opinion reply_by"),
    *_everywhere((*BEFORE_FILING, *FILED), "reply_supervision", None, "acceptor shift_supervisor dispatcher department", "",
                 "督办回复", "answer the supervision", guards="my_department supervised", needs="opinion"),
    *_everywhere(FILED, "force_close", "forced", "administrator", "-dispatch -handling -check -closing", "强制结案",
                 "force the end", needs="opinion"),
)  # fmt: skip
"""The 33 transitions of the field's practice (the report itself is the first), and what a city's work needs beside them."""

_BY_PAIR = {(s.source, s.action): s for s in WORKFLOW}
_BY_STATE: dict[str, list[Step]] = {state: [s for s in WORKFLOW if s.source == state] for state in STATES}


def steps(state: State) -> list[Step]:
    """Everything that can be done in a state, by whomever."""
    return _BY_STATE[state]


def allowed(state: State, roles: frozenset[str]) -> list[Action]:
    """What somebody with `roles` may do now, as far as state and roles go."""
    return [s.action for s in steps(state) if s.roles & roles]


def step(state: State, action: Action, roles: frozenset[str]) -> Step:
    """The row for this action. Raises Conflict where the state has no such action, Forbidden where the role lacks it."""
    found = _BY_PAIR.get((state, action))
    if found is None:
        possible = [s.action for s in steps(state)]
        raise Conflict(f"a case that is {state} cannot {action}", field="/action", allowed=possible, state=state)
    if not found.roles & roles:
        raise Forbidden(f"to {action} needs one of: {', '.join(sorted(found.roles))}")
    return found


def on_time(handled: datetime, due: datetime) -> bool:
    """The department's feedback counts, not the closing after it; the last moment is still on time."""
    return handled <= due
