"""Rules of counting: what a fact changes in its case and by how much it moves the totals; values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from contracts.base import Fact
from contracts.case import CaseClosed, CaseDispatched, CaseFiled, CaseHandled, CaseRefused, CaseReported, CaseReworked
from shared.clock import stamp, unstamp

Row = dict[str, Any]
State = Literal["reported", "refused", "filed", "dispatched", "handled", "closed"]
"""What the facts can make of a case."""
CHANGING = (
    "state", "department", "filed_at", "due_at", "handled_at", "ended_at", "on_time", "seconds", "open", "changed_at",
)  # fmt: skip
"""What facts after the report may change of a case; `changed_at` is set by the folding node, the rest comes from the facts."""
Key = tuple[str, str, str, str, str]
"""(origin, division, category, day, provenance)."""


def reported(origin: str, fact: CaseReported) -> Row:
    """The row of a case of which nothing was known."""
    return {
        "id": fact.case, "origin": origin, "division": fact.place.division, "cell": fact.place.cell,
        "category": fact.category, "channel": fact.channel, "provenance": fact.provenance, "number": fact.number,
        "edition": fact.edition, "dataset": fact.dataset, "lon": fact.place.lon, "lat": fact.place.lat,
        "reported_at": stamp(fact.time), **dict.fromkeys(CHANGING), "state": "reported", "open": False,
    }  # fmt: skip


def change(row: Row, fact: Fact) -> Row:
    """The case after `fact`."""
    at = stamp(fact.time)
    match fact:
        case CaseFiled():
            return row | {"state": "filed", "filed_at": at, "due_at": stamp(fact.due), "open": True}
        case CaseRefused():
            return row | {"state": "refused", "ended_at": at, "open": False}
        case CaseDispatched():
            return row | {"state": "dispatched", "department": fact.department}
        case CaseHandled():
            return row | {"state": "handled", "handled_at": at}
        case CaseReworked():
            return row | {"state": "dispatched", "handled_at": None}
        case CaseClosed():
            seconds = int((fact.time - unstamp(row["reported_at"])).total_seconds())
            return row | {"state": "closed", "ended_at": at, "seconds": seconds, "on_time": fact.on_time, "open": False}
    return row


def moves(row: Row, fact: Fact) -> tuple[Key, tuple[str, ...]]:
    """Which totals `fact` adds one to (none for a fact that counts nowhere), and under which key."""
    names: tuple[str, ...] = ()
    match fact:
        case CaseReported():
            names = ("reported",)
        case CaseFiled():
            names = ("filed",)
        case CaseRefused():
            names = ("refused",)
        case CaseReworked():
            names = ("reworked",)
        case CaseClosed():
            names = ("closed", "closed_on_time") if fact.on_time else ("closed",)
    return (row["origin"], row["division"], row["category"], fact.day, row["provenance"]), names


def on_time_rate(counts: Mapping[str, int]) -> float | None:
    """closed on time ÷ (closed + overdue open); None where nothing was due. What is late and open counts against."""
    base = counts["closed"] + counts["overdue_open"]
    return counts["closed_on_time"] / base if base else None
