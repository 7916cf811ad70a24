"""What a reporter sees of a case: phases in plain words, never who did what, nor the offices' going back and forth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from services.case.domain import WITH_DEPARTMENT, State, allowed


class Phase(NamedTuple):
    """A part of a case's life as the public knows it."""

    code: str
    zh: str
    en: str


RECEIVED = Phase("received", "已收到，等待受理", "received, waiting to be looked at")
VERIFYING = Phase("verifying", "正在派人现场核实", "somebody is looking at the place")
ACCEPTED = Phase("accepted", "已受理，等待立案", "taken up, waiting to be filed")
FILED = Phase("filed", "已立案，等待派遣", "filed, waiting for a department")
HANDLING = Phase("handling", "责任部门处置中", "a department is at work on it")
PAUSED = Phase("paused", "暂缓处置", "put off to a later day")
CHECKING = Phase("checking", "已处置，等待核查结案", "done, being checked")
CLOSED = Phase("closed", "已结案", "closed")
REFUSED = Phase("refused", "不予受理", "not taken up")
WITHDRAWN = Phase("withdrawn", "已撤回", "withdrawn")
VOID = Phase("void", "已作废", "cancelled")
MERGED = Phase("merged", "与同一问题的另一件合并处理", "handled together with another report of the same problem")

PHASES: dict[State, Phase] = {
    "reported": RECEIVED, "verifying": VERIFYING, "accepted": ACCEPTED, "filed": FILED, "void_asked": FILED,
    **dict.fromkeys(WITH_DEPARTMENT, HANDLING), "suspended": PAUSED, "handled": CHECKING, "checking": CHECKING,
    "checked": CHECKING, "self_handled": CHECKING, "refused": REFUSED, "declined": REFUSED, "withdrawn": WITHDRAWN, "void": VOID,
    "closed": CLOSED, "forced": CLOSED, "appealed": CLOSED, "appeal_review": CLOSED, "merged": MERGED,
}  # fmt: skip

REPORTER = frozenset({"reporter"})


def timeline(reported_at: str, steps: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The phases that a case went through, with the instant of each; steps within one phase are nobody's concern outside."""
    found, last = [_shown(RECEIVED) | {"at": reported_at}], RECEIVED
    for step in steps:
        phase = PHASES[step["target"]]
        if phase != last:
            found.append(_shown(phase) | {"at": step["at"]})
            last = phase
    return found


def seen(case: Mapping[str, Any], steps: Iterable[Mapping[str, Any]], surviving: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a reporter; `surviving` is the case that this one was merged into, itself where it was not."""
    return {
        "number": case["number"], "category": case["category"], "reported_at": case["reported_at"],
        "phase": _shown(PHASES[surviving["state"]]), "merged": case["id"] != surviving["id"],
        "due_at": surviving["due_at"], "ended_at": surviving["ended_at"],
        "timeline": timeline(case["reported_at"], steps),
        "can": sorted(set(allowed(case["state"], REPORTER)) & {"withdraw", "reopen"}),
    }  # fmt: skip


def _shown(phase: Phase) -> dict[str, str]:
    return {"code": phase.code, "zh": phase.zh, "en": phase.en}
