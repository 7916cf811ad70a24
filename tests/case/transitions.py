"""The 33 transitions of the field's practice: where each begins, who takes it, what becomes of case, clocks and facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DUE = "10-09 17:20"
"""2 work days from Wednesday 09-30 17:20: 40 minutes that day, a week of holidays, Thursday 10-08, Friday until 17:20."""


@dataclass(frozen=True)
class Transition:
    """One way of taking a transition.

    `clocks`: what becomes of each clock that the step touches: `hold`, `end`, or `start`, `resume`, `moved` with the deadline;
    every other one stays as it is. `row`: what the case says then; its instants are written as on the wall.
    """

    number: int
    source: str
    at: str
    action: str
    role: str
    target: str
    clocks: dict[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    row: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        return "-".join(str(w) for w in (self.number, self.source.replace(" ", "_"), self.action, self.note) if w)


T = Transition
ENDED = ("stage-ended",)
TRANSITIONS: tuple[Transition, ...] = (
    T(2, "reported", "09-30 17:05", "ask_verification", "acceptor", "verifying",
      {"acceptance": "hold", "verification": "start 09-30 17:35"}, ("task-asked",), {"late_at": "09-30 17:35"}),
    T(3, "verifying", "09-30 17:25", "verify", "collector", "reported",
      {"verification": "end", "acceptance": "resume 09-30 17:35"},
      (*ENDED, "task-answered"), {"verified": "exist", "late_at": "09-30 17:35"}),
    T(3, "verifying", "09-30 17:40", "verify", "collector", "reported",
      {"verification": "end", "acceptance": "resume 09-30 17:50"},
      (*ENDED, "task-answered"), {"verified": "not_exist"}, {"result": "not_exist"}, "late"),
    T(3, "verifying", "09-30 17:25", "verify", "collector", "reported",
      {"verification": "end", "acceptance": "resume 09-30 17:35"},
      (*ENDED, "task-answered"), {"verified": "unable"}, {"result": "unable"}, "unable"),
    T(4, "reported", "09-30 17:05", "refuse", "acceptor", "refused", {"acceptance": "end"}, (*ENDED, "refused"),
      {"ended_at": "09-30 17:05", "light": None}),
    T(5, "reported", "09-30 17:05", "accept", "acceptor", "accepted", {"acceptance": "end", "filing": "start 09-30 17:20"},
      (*ENDED, "accepted"), {"late_at": "09-30 17:20"}),
    T(6, "accepted", "09-30 17:10", "file", "shift_supervisor", "filed", {"filing": "end", "dispatch": "start 09-30 17:25"},
      (*ENDED, "filed"), {"filed_at": "09-30 17:10", "due_at": "10-09 17:10", "condition": "1"}),
    T(6, "reported", "09-30 18:30", "file", "shift_supervisor", "filed", {"acceptance": "end", "dispatch": "start 09-30 18:45"},
      (*ENDED, "filed"), {"filed_at": "09-30 18:30", "due_at": "10-09 18:00"}, note="at_once_in_the_evening"),
    T(7, "accepted", "09-30 17:10", "decline", "shift_supervisor", "declined", {"filing": "end"}, (*ENDED, "refused"),
      {"ended_at": "09-30 17:10"}),
    T(8, "accepted", "09-30 17:10", "send_back", "shift_supervisor", "reported",
      {"filing": "end", "acceptance": "start 09-30 17:25"}, (*ENDED, "returned"), {"late_at": "09-30 17:25"}),
    T(9, "filed", "09-30 17:20", "dispatch", "dispatcher", "dispatched", {"dispatch": "end", "handling": f"start {DUE}"},
      (*ENDED, "dispatched"), {"due_at": DUE, "late_at": DUE, "warn_at": "10-09 14:08", "department": "lamps",
                               "helpers": ["roads"], "light": "green"}, {"helpers": ["roads", "lamps"]}),
    T(9, "filed", "10-01 10:00", "dispatch", "dispatcher", "dispatched", {"dispatch": "end", "handling": "start 10-09 18:00"},
      (*ENDED, "dispatched"), {"due_at": "10-09 18:00"}, note="on_a_holiday"),
    T(10, "filed", "09-30 17:20", "send_back", "dispatcher", "accepted", {"dispatch": "end", "filing": "start 09-30 17:35"},
      (*ENDED, "returned"), {"category": "E0105", "condition": "1"}),
    T(11, "filed", "09-30 17:15", "ask_void", "dispatcher", "void_asked", {"dispatch": "hold"}),
    T(12, "void_asked", "09-30 17:18", "grant", "shift_supervisor", "void", {"dispatch": "end"}, (*ENDED, "voided"),
      {"ended_at": "09-30 17:18"}),
    T(12, "void_asked", "09-30 17:18", "deny", "shift_supervisor", "filed", {"dispatch": "resume 09-30 17:28"}),
    T(13, "dispatched", "09-30 17:30", "assign", "department", "handling", row={"handler": "wang", "due_at": DUE}),
    T(14, "dispatched", "09-30 17:30", "ask_return", "department", "return_asked", {"handling": "hold"}, row={"light": None}),
    T(15, "return_asked", "09-30 17:40", "grant", "dispatcher", "filed", {"dispatch": "start 09-30 17:55"}, ("returned",),
      {"returned_by": ["lamps"], "late_at": "09-30 17:55"}),
    T(15, "return_asked", "09-30 17:40", "deny", "dispatcher", "dispatched", {"handling": "resume 10-09 17:30"}, ("resumed",),
      {"due_at": "10-09 17:30", "late_at": "10-09 17:30"}),
    T(15, "returned", "09-30 17:50", "dispatch", "dispatcher", "dispatched",
      {"dispatch": "end", "handling": "resume 10-09 17:40"},
      (*ENDED, "dispatched"), {"due_at": "10-09 17:40"}, note="same"),
    T(15, "returned", "09-30 17:50", "dispatch", "dispatcher", "dispatched", {"dispatch": "end", "handling": "start 10-09 17:50"},
      (*ENDED, "dispatched"), {"due_at": "10-09 17:50", "department": "roads"}, {"department": "roads"}, "other"),
    T(16, "handling", "10-08 09:00", "ask_postponement", "handler", "postpone_asked", row={"late_at": DUE, "handler": "wang"}),
    T(16, "dispatched", "10-08 09:00", "ask_postponement", "department", "postpone_review", row={"late_at": DUE}),
    T(17, "postpone_asked", "10-08 09:30", "endorse", "department", "postpone_review", row={"late_at": DUE}),
    T(17, "postpone_asked", "10-08 09:30", "deny", "department", "handling", row={"postponements": 0, "due_at": DUE}),
    T(17, "postpone_review", "10-08 10:00", "grant", "dispatcher", "handling", {"handling": "moved 10-12 17:20"}, ("postponed",),
      {"postponements": 1, "due_at": "10-12 17:20", "handler": "wang"}),
    T(17, "postpone_review", "10-08 10:00", "deny", "dispatcher", "handling", row={"postponements": 0, "due_at": DUE}),
    T(18, "handling", "10-08 09:00", "ask_suspension", "handler", "suspend_asked", row={"late_at": DUE, "wakes_at": None}),
    T(18, "dispatched", "10-08 09:00", "ask_suspension", "department", "suspend_asked", row={"late_at": DUE}),
    T(19, "suspend_asked", "10-08 10:00", "grant", "dispatcher", "suspended", {"handling": "hold"}, ("suspended",),
      {"wakes_at": "10-20 12:00", "suspensions": 1, "light": None, "handler": None}),
    T(19, "suspend_asked", "10-08 10:00", "deny", "dispatcher", "handling", row={"suspensions": 0, "late_at": DUE}),
    T(20, "suspended", "10-08 16:00", "resume", "dispatcher", "dispatched", {"handling": "resume 10-10 11:20"}, ("resumed",),
      {"due_at": "10-10 11:20", "wakes_at": None}),
    T(21, "handling", "10-08 11:00", "finish", "handler", "done", row={"hands": ["wang"], "late_at": DUE}),
    T(22, "done", "10-08 15:00", "reject", "department", "handling", row={"handler": "wang", "late_at": DUE}),
    T(23, "done", "10-08 15:00", "handle", "department", "handled", {"handling": "end", "closing": "start 10-08 15:15"},
      (*ENDED, "handled"), {"handled_at": "10-08 15:00", "due_at": DUE, "hands": ["the department", "wang"]}),
    T(23, "dispatched", "09-30 17:30", "handle", "department", "handled", {"handling": "end", "closing": "start 09-30 17:45"},
      (*ENDED, "handled"), {"handled_at": "09-30 17:30"}, note="without_a_handler"),
    T(24, "handled", "10-08 15:10", "rework", "dispatcher", "dispatched", {"closing": "end", "handling": "resume 10-09 17:30"},
      (*ENDED, "reworked", "resumed"), {"handled_at": None, "due_at": "10-09 17:30", "department": "lamps", "handler": None}),
    T(25, "handled", "10-08 15:05", "ask_check", "acceptor", "checking", {"closing": "hold", "check": "start 10-08 15:35"},
      ("task-asked",), {"late_at": "10-08 15:35"}),
    T(26, "checking", "10-08 15:25", "pass_check", "collector", "checked", {"check": "end", "closing": "resume 10-08 15:35"},
      (*ENDED, "task-answered"), {"checked_by": "the collector"}),
    T(27, "checking", "10-08 15:25", "fail_check", "collector", "filed",
      {"check": "end", "closing": "end", "dispatch": "start 10-08 15:40"}, (*ENDED, *ENDED, "task-answered"),
      {"failed_check": True, "handled_at": None}),
    T(27, "failed", "10-08 15:35", "dispatch", "dispatcher", "dispatched", {"dispatch": "end", "handling": "resume 10-09 17:55"},
      (*ENDED, "reworked", "dispatched"), {"due_at": "10-09 17:55", "failed_check": False}, note="same"),
    T(27, "failed", "10-08 15:35", "dispatch", "dispatcher", "dispatched", {"dispatch": "end", "handling": "start 10-10 15:35"},
      (*ENDED, "dispatched"), {"due_at": "10-10 15:35", "failed_check": False}, {"department": "roads"}, "other"),
    T(28, "checked", "10-08 15:30", "close", "shift_supervisor", "closed", {"closing": "end"}, (*ENDED, "closed"),
      {"ended_at": "10-08 15:30", "on_time": True, "means": "service"}),
    T(28, "checked late", "10-10 09:30", "close", "shift_supervisor", "closed", {"closing": "end"}, (*ENDED, "closed"),
      {"ended_at": "10-10 09:30", "on_time": False}),
    T(29, "checked", "10-08 15:30", "send_back", "shift_supervisor", "filed", {"closing": "end", "dispatch": "start 10-08 15:45"},
      (*ENDED, "returned"), {"failed_check": True, "handled_at": None, "checked_by": None}),
    *(T(30, state, "10-08 15:40", "supervise", "leader", state, {}, ("supervised",), {"reply_by": "10-09 10:00"})
      for state in ("reported", "accepted", "filed", "handling", "suspended", "checked")),
    T(31, "filed", "09-30 17:18", "force_close", "administrator", "forced", {"dispatch": "end"}, (*ENDED, "closed"),
      {"ended_at": "09-30 17:18", "on_time": True}),
    T(31, "handling", "10-09 17:21", "force_close", "administrator", "forced", {"handling": "end"}, (*ENDED, "closed"),
      {"on_time": False}, note="late"),
    T(31, "suspended", "10-19 09:00", "force_close", "administrator", "forced", {"handling": "end"}, (*ENDED, "closed"),
      {"on_time": True, "wakes_at": None}, note="while_the_clock_stands"),
    T(32, "closed late", "10-10 10:00", "appeal", "department", "appealed", {}, ("appealed",),
      {"on_time": False, "appealed": "asked"}),
    T(32, "appealed", "10-10 10:30", "endorse", "dispatcher", "appeal_review", {}, (), {"appealed": "asked"}),
    T(32, "appealed", "10-10 10:30", "deny", "dispatcher", "closed", {}, ("appealed",), {"on_time": False, "appealed": "denied"}),
    T(32, "appeal_review", "10-10 11:00", "grant", "acceptor", "closed", {}, ("appealed",),
      {"on_time": False, "appealed": "granted"}),
    T(32, "appeal_review", "10-10 11:00", "deny", "acceptor", "closed", {}, ("appealed",),
      {"on_time": False, "appealed": "denied"}),
    T(33, "self_handled", "09-30 17:10", "grant", "acceptor", "closed", {"acceptance": "end"}, (*ENDED, "self-handled"),
      {"ended_at": "09-30 17:10", "on_time": None}),
    T(33, "self_handled", "09-30 17:10", "deny", "acceptor", "refused", {"acceptance": "end"}, (*ENDED, "refused")),
)  # fmt: skip
"""All but the first, the report itself, which is no step of a case."""

BESIDE: tuple[Transition, ...] = (
    T(0, "verifying", "09-30 17:25", "recall", "acceptor", "reported",
      {"verification": "end", "acceptance": "resume 09-30 17:35"},
      (*ENDED, "task-answered"), {"verified": None}),
    T(0, "checking", "10-08 15:25", "recall", "collector", "handled", {"check": "end", "closing": "resume 10-08 15:35"},
      (*ENDED, "task-answered")),
    T(0, "handling", "10-08 09:00", "unassign", "department", "dispatched", row={"handler": None, "late_at": DUE}),
    T(0, "accepted", "09-30 17:10", "amend", "acceptor", "accepted", {}, ("amended",), {"category": "E0106"}),
    T(0, "filed", "09-30 17:18", "split", "dispatcher", "filed"),
    T(0, "handling", "10-08 09:00", "merge", "acceptor", "merged", {"handling": "hold"}, ("merged",),
      {"ended_at": "10-08 09:00", "light": None}),
    T(0, "merged", "09-30 17:25", "unmerge", "acceptor", "reported", {"acceptance": "resume 09-30 17:35"}, ("unmerged",),
      {"ended_at": None, "merged_into": None, "late_at": "09-30 17:35"}),
    T(0, "suspended", "10-09 08:00", "merge", "acceptor", "merged", {}, ("merged",), {"wakes_at": "10-20 12:00"}),
)  # fmt: skip
"""What a city's work needs beside them."""
