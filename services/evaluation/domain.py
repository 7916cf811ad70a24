"""Rules of counting: what a fact changes in its case, what a case counts for and how that moves totals; values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from contracts.base import Fact
from contracts.case import (
    CaseAccepted,
    CaseAmended,
    CaseAppealed,
    CaseClosed,
    CaseDispatched,
    CaseFiled,
    CaseHandled,
    CaseMerged,
    CasePostponed,
    CaseRefused,
    CaseReopened,
    CaseReported,
    CaseResumed,
    CaseReturned,
    CaseReworked,
    CaseSelfHandled,
    CaseSuspended,
    CaseTaskAnswered,
    CaseTaskAsked,
    CaseUnmerged,
    CaseVoided,
    CaseWithdrawn,
    Stage,
)
from shared.clock import stamp, unstamp

Row = dict[str, Any]
Changes = dict[str, Any]
Key = tuple[str, str, str, str, str]
"""(origin, division, category, day, provenance)."""
Move = tuple[Key, str, int]
"""Under which key which quantity goes up (1) or down (-1)."""

State = Literal[
    "reported", "verifying", "accepted", "refused", "declined", "withdrawn", "filed", "void", "dispatched", "suspended",
    "handled", "checking", "checked", "closed", "merged",
]  # fmt: skip
"""What the facts can make of a case; an origin's own states may be finer."""
STATES: frozenset[str] = frozenset(get_args(State))
OPEN: frozenset[str] = frozenset(("filed", "dispatched", "suspended", "handled", "checking", "checked"))
"""Filed and not ended. A case that went back behind its filing is open again once it is filed again."""
ENDED: frozenset[str] = frozenset(("refused", "declined", "withdrawn", "void", "closed", "merged"))

CHANGING = (
    "state", "department", "filed_at", "due_at", "handled_at", "ended_at", "on_time", "seconds", "open", "exempt", "counted",
    "changed_at",
)  # fmt: skip
"""What facts after the report may change of a case; `changed_at` is set by the folding node, the rest comes from the facts."""
PLACED = ("division", "cell", "category", "part", "lon", "lat")
"""What only a correction changes."""

MARKS = {
    "reported": "R", "refused": "N", "filed": "F", "closed": "C", "closed_on_time": "T", "reworked": "W", "exempted": "X",
}  # fmt: skip
"""How the column `counted` writes a quantity: its letter and the civil day, one after the other, such as R2026-03-01F2026-03-02.

Totals are the sum of what all cases say there, whatever facts came in whatever order: a fact changes what its case says, and the
totals move by the difference. So a case is never counted twice, and what is corrected or taken back is found on the right day.
"""
_NAMES = {letter: name for name, letter in MARKS.items()}
_WIDTH = len("R2026-03-01")
_CLOSING = ("C", "T", "X")


def reported(origin: str, fact: CaseReported) -> Row:
    """The row of a case of which nothing was known."""
    return {
        "id": fact.case, "origin": origin, "division": fact.place.division, "cell": fact.place.cell,
        "category": fact.category, "channel": fact.channel, "provenance": fact.provenance, "number": fact.number,
        "edition": fact.edition, "dataset": fact.dataset, "part": fact.part, "lon": fact.place.lon, "lat": fact.place.lat,
        "reported_at": stamp(fact.time), **dict.fromkeys(CHANGING), "state": "reported", "open": False, "exempt": False,
        "counted": f"R{fact.day}",
    }  # fmt: skip


def change(row: Row, fact: Fact) -> Row:
    """The case after `fact`; the same row where the fact changes nothing here.

    The origin vouches for its order: a fact that fits no state is followed like any other, but counts nothing a second time.
    """
    turn = TURNS.get(type(fact))
    changes = turn(row, fact) if turn else None
    if not changes:
        return row
    after = row | changes
    after["open"] = after["state"] in OPEN
    return after


def moves(before: Row | None, after: Row) -> Iterable[Move]:
    """How totals move when a case is no longer as it was `before` (None: not known) but as it is `after`."""
    old, new = before["counted"] if before else "", after["counted"]
    there = before is None or (before["division"] == after["division"] and before["category"] == after["category"])
    if there and new.startswith(old):
        return _moved(after, new[len(old) :], 1) if len(new) > len(old) else ()
    return [*_moved(before or after, old, -1), *_moved(after, new, 1)]


def _moved(row: Row, marks: str, by: int) -> list[Move]:
    origin, division, category, provenance = row["origin"], row["division"], row["category"], row["provenance"]
    return [((origin, division, category, mark[1:], provenance), _NAMES[mark[0]], by) for mark in _each(marks)]


def _each(marks: str) -> list[str]:
    return [marks[n : n + _WIDTH] for n in range(0, len(marks), _WIDTH)]


def _once(row: Row, name: str, day: str) -> str:
    """What the case counts for with one more; what it counts for already, such as the first filing, it does not count again."""
    letter, counted = MARKS[name], str(row["counted"])
    return counted if letter in counted else f"{counted}{letter}{day}"


def _comes_to(state: State) -> Callable[[Row, Fact], Changes]:
    return lambda row, fact: {"state": state}


def _ends(state: State) -> Callable[[Row, Fact], Changes]:
    return lambda row, fact: {"state": state, "ended_at": stamp(fact.time)}


_NOBODYS: Changes = {"due_at": None, "handled_at": None}
"""A case that went back lies with no department: the handling's clock stands, so no deadline can pass until the next dispatch
says one. How long it waits there is for the clock of that stage to tell; as overdue it would be held against the department that
gave it back, or whose work waits to be looked at anew."""


def _amended(row: Row, fact: CaseAmended) -> Changes:
    """What the case counted for so far moves with it to its new category and division, day by day."""
    where = {"division": fact.place.division, "cell": fact.place.cell, "lon": fact.place.lon, "lat": fact.place.lat}
    return where | {"category": fact.category, "part": fact.part}


def _task_asked(row: Row, fact: CaseTaskAsked) -> Changes:
    return {"state": "checking" if fact.task == "check" else "verifying"}


def _task_answered(row: Row, fact: CaseTaskAnswered) -> Changes:
    if fact.task == "verification":
        return {"state": "reported"}
    if fact.result == "not_pass":
        return {"state": "filed"} | _NOBODYS
    return {"state": "checked" if fact.result == "pass" else "handled"}


def _filed(row: Row, fact: CaseFiled) -> Changes:
    """A later filing, after a return or a reopening, says the deadline anew and counts nothing."""
    at = {"filed_at": stamp(fact.time), "due_at": stamp(fact.due)}
    return {"state": "filed", **at, "counted": _once(row, "filed", fact.day)}


def _refused(row: Row, fact: CaseRefused) -> Changes:
    state = "declined" if fact.stage == "filing" else "refused"
    return {"state": state, "ended_at": stamp(fact.time), "counted": _once(row, "refused", fact.day)}


def _dispatched(row: Row, fact: CaseDispatched) -> Changes:
    changes = {"state": "dispatched", "department": fact.department}
    return changes | {"due_at": stamp(fact.due)} if fact.due else changes


BACK: dict[Stage, State] = {
    "acceptance": "reported", "verification": "verifying", "filing": "accepted", "dispatch": "filed", "handling": "dispatched",
    "check": "checking", "closing": "handled",
}  # fmt: skip
"""Where a case is that went back to a stage; the work itself goes back no further than to the dispatch."""


def _returned(row: Row, fact: CaseReturned) -> Changes:
    return {"state": BACK[fact.to]} | _NOBODYS


def _postponed(row: Row, fact: CasePostponed) -> Changes:
    return {"due_at": stamp(fact.due)}


def _suspended(row: Row, fact: CaseSuspended) -> Changes:
    """The clock stands, so no deadline can pass."""
    return {"state": "suspended", "due_at": None}


def _resumed(row: Row, fact: CaseResumed) -> Changes:
    return {"state": "dispatched", "due_at": stamp(fact.due)}


def _handled(row: Row, fact: CaseHandled) -> Changes:
    return {"state": "handled", "handled_at": stamp(fact.time)}


def _reworked(row: Row, fact: CaseReworked) -> Changes:
    """Every time counts."""
    return {"state": "dispatched", "handled_at": None, "counted": f"{row['counted']}W{fact.day}"}


def _closed(row: Row, fact: CaseClosed) -> Changes:
    seconds = int((fact.time - unstamp(row["reported_at"])).total_seconds())
    counted = row["counted"]
    if "C" not in counted:
        counted = f"{counted}C{fact.day}T{fact.day}" if fact.on_time else f"{counted}C{fact.day}"
    end = {"ended_at": stamp(fact.time), "seconds": seconds, "on_time": fact.on_time}
    return {"state": "closed", **end, "counted": counted}


def _appealed(row: Row, fact: CaseAppealed) -> Changes:
    """A granted appeal takes an overdue closing out of the overdue figures of its day; the closing itself stays what it was."""
    marks = {mark[0]: mark[1:] for mark in _each(row["counted"])}
    if fact.result != "granted" or "C" not in marks or "T" in marks:
        return {}
    return {"exempt": True, "counted": _once(row, "exempted", marks["C"])}


def _reopened(row: Row, fact: CaseReopened) -> Changes:
    """The closing is taken back from the day on which it was counted; the next one counts on its own day."""
    undone = dict.fromkeys(("due_at", "handled_at", "ended_at", "on_time", "seconds"))
    kept = "".join(mark for mark in _each(row["counted"]) if mark[0] not in _CLOSING)
    return {"state": "accepted", **undone, "exempt": False, "counted": kept}


def _unmerged(row: Row, fact: CaseUnmerged) -> Changes:
    """It stands where its origin says. Of the origin's finer states all lie with a department but the one before a voiding."""
    state = fact.state if fact.state in STATES else "filed" if fact.state == "void_asked" else "dispatched"
    return {"state": state} if state in ENDED else {"state": state, "ended_at": None}


TURNS: dict[type[Fact], Callable[[Row, Any], Changes]] = {
    CaseAmended: _amended, CaseAccepted: _comes_to("accepted"), CaseTaskAsked: _task_asked, CaseTaskAnswered: _task_answered,
    CaseFiled: _filed, CaseRefused: _refused, CaseWithdrawn: _ends("withdrawn"), CaseDispatched: _dispatched,
    CaseReturned: _returned, CaseVoided: _ends("void"), CasePostponed: _postponed, CaseSuspended: _suspended,
    CaseResumed: _resumed, CaseHandled: _handled, CaseReworked: _reworked, CaseClosed: _closed,
    # An end that is neither a filing nor a closing in the sense of the rates.
    CaseSelfHandled: _ends("closed"),
    CaseAppealed: _appealed, CaseReopened: _reopened, CaseMerged: _ends("merged"), CaseUnmerged: _unmerged,
}  # fmt: skip
"""What each fact after the report changes of a case."""


def on_time_rate(counts: Mapping[str, int]) -> float | None:
    """closed on time ÷ (closed − exempted + overdue open); None where nothing was due. What is late and open counts against."""
    base = counts["closed"] - counts["exempted"] + counts["overdue_open"]
    return counts["closed_on_time"] / base if base else None
