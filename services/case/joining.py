"""Actions that touch two cases: merging duplicates 并案 and undoing it, splitting 拆分 what is more than one problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import select, update

from contracts.case import CaseLinked, CaseMerged, CaseResumed, CaseUnmerged
from services.case import decisions, domain
from services.case.deeds import Act, Decided
from services.case.intake import Report, report
from services.case.tables import cases
from shared.clock import stamp
from shared.errors import Conflict, Invalid, NotFound

MANY = 9
"""Parts that one report may be split into."""


def _merge(a: Act) -> Decided:
    """Let the case end in another one, whose clocks go on; its own stand, so that undoing costs it nothing."""
    head = _head(a, a.given["into"])
    if head["id"] == a.row["id"]:
        raise Invalid("a case cannot be merged into itself, nor into one that was merged into it", field="/into")
    if head["state"] not in domain.OPEN:
        raise Conflict(f"the case {head['number']} has ended: a new report about its place is a new case", field="/into")
    _count(a, head["id"], 1 + a.row["joined"])
    held = a.clocks.hold_all()
    a.noted["into"] = head["id"]
    changes = {"merged_into": head["id"], "before": a.row["state"], "ended_at": stamp(a.at),
               "pending": (a.row["pending"] or {}) | {"held": held, "before": a.row["before"], "reply_by": a.row["reply_by"]},
               "reply_by": None}  # fmt: skip
    return changes, [CaseMerged(**a.about, into=head["id"])]


def _head(a: Act, case_id: str) -> Mapping[str, Any]:
    """The case in which a chain of mergings ends."""
    for _ in range(100):
        row = a.tx.execute(select(cases).where(cases.c.id == case_id)).mappings().first()
        if row is None:
            raise NotFound("no such case here to merge into", field="/into")
        if row["state"] != "merged":
            return dict(row)
        case_id = row["merged_into"]
    raise Conflict("these mergings lead in a circle", field="/into")


def _count(a: Act, case_id: str, by: int) -> None:
    """How many reports stand behind a case changes without a step of its own: nobody's version goes stale by it."""
    changed = update(cases).where(cases.c.id == case_id).values(joined=cases.c.joined + by, changed_at=stamp(a.tx.now()))
    a.tx.execute(changed)


def _unmerge(a: Act) -> Decided:
    pending = dict(a.row["pending"] or {})
    for stage in pending.pop("held", ()):
        a.clocks.resume(stage)
    head = a.row["merged_into"]
    while head is not None:
        # The case that this one was merged into may itself have been merged since, and brought its reports with it.
        _count(a, head, -1 - a.row["joined"])
        head = a.tx.execute(select(cases.c.merged_into).where(cases.c.id == head)).scalar()
    changes = {"merged_into": None, "ended_at": None, "before": pending.pop("before", None),
               "reply_by": pending.pop("reply_by", None), "pending": pending or None}  # fmt: skip
    goes_on = [CaseResumed(**a.about, due=a.clocks.due)] if a.clocks.moved and a.clocks.due else []
    return changes, [CaseUnmerged(**a.about, state=a.row["before"]), *goes_on]


GIVEN = frozenset(f.name for f in fields(Report)) & {"category", "lon", "lat", "cell", "part", "text", "place", "answers"}


def _split(a: Act) -> Decided:
    """Make a case of each part; what is not said of a part is as in the case that is split, which stays as it is."""
    parts = a.given["parts"]
    if not 1 <= len(parts) <= MANY:
        raise Invalid(f"a case is split into at most {MANY} parts", field="/parts")
    facts = []
    for n, said in enumerate(parts):
        placed = any(said.get(k) is not None for k in ("lon", "lat", "cell", "part"))
        where = {} if placed else {"lon": a.row["lon"], "lat": a.row["lat"]}
        what = {k: v for k, v in said.items() if k in GIVEN and v is not None}
        about = {"channel": a.row["channel"], "provenance": a.row["provenance"], "dataset": a.row["dataset"],
                 "application": a.row["application"], "category": a.row["category"]}  # fmt: skip
        try:
            child = report(a.tx, a.around, Report(**(about | where | what)), a.at, a.who)
        except Invalid as error:
            raise Invalid(error.detail, field=f"/parts/{n}{error.field or ''}", **error.extra) from None
        a.tx.execute(update(cases).where(cases.c.id == child["id"]).values(parent=a.row["id"], verified=a.row["verified"]))
        facts.append(CaseLinked(**(a.about | {"case": child["id"]}), to=a.row["id"], how="split"))
        a.noted.setdefault("children", []).append(child["id"])
    return {}, [*facts]


DECIDE = decisions.DECIDE | {"merge": _merge, "join": _merge, "unmerge": _unmerge, "split": _split}
"""The decision of every action of the workflow."""
