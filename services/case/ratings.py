"""Satisfaction 满意度: what reporters, return visits 回访 and third parties say of the work on a closed case."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import JSON, Column, Connection, Index, Integer, String, Table, bindparam, insert, select

from contracts.case import CaseRated
from services.case import notices
from services.case.intake import Surroundings
from services.case.tables import INSTANT, cases, metadata
from shared import audit
from shared.auth import Caller
from shared.clock import civil_day, stamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound

By = Literal["reporter", "visit", "third_party"]
Reason = Literal["not_solved", "came_back", "too_slow", "bad_manner", "not_told", "well_done", "quick", "other"]
RATEABLE = frozenset({"closed", "forced", "appealed", "appeal_review"})

ratings = Table(
    "case_ratings",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("case_id", String(40), nullable=False),
    # Whose rating it is: the report it came by, which may have been merged into the case; each rates each ending once.
    Column("report_id", String(40), nullable=False),
    Column("by", String(12), nullable=False),
    Column("ending", INSTANT, nullable=False),
    Column("score", Integer),
    Column("reasons", JSON, nullable=False),
    Column("text", String(500)),
    Column("at", INSTANT, nullable=False),
    Column("actor", String(120), nullable=False),
    Index("case_ratings_case", "case_id"),
    Index("case_ratings_once", "report_id", "by", "ending", unique=True),
)
"""Only ever added to; without a score a return visit reached nobody."""

_CASE = select(cases).where(cases.c.id == bindparam("case"))
_SAME = select(ratings.c.id).where(
    ratings.c.report_id == bindparam("report"), ratings.c.by == bindparam("who"), ratings.c.ending == bindparam("end")
)


def rate(
    tx: Tx, around: Surroundings, report_id: str, by: By, score: int | None, who: Caller,
    reasons: list[Reason] | None = None, text: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Rate the work on a case, or on the one that it was merged into; answers the rating.

    Raises NotFound, Conflict for a case that has not ended or was rated before, Invalid for a visit without a score that gives
    reasons.
    """
    case = _surviving(tx, report_id)
    if case["state"] not in RATEABLE:
        raise Conflict("only what has been closed can be rated", field="/case", state=case["state"])
    if score is None and (by != "visit" or reasons):
        raise Invalid("a score is needed; only a visit that reached nobody has none", field="/score")
    if tx.execute(_SAME, {"report": report_id, "who": by, "end": case["ended_at"]}).first():
        raise Conflict("this was rated before", field="/case")
    at = tx.now()
    row = {"id": tx.new_id(), "case_id": case["id"], "report_id": report_id, "by": by, "ending": case["ended_at"], "score": score,
           "reasons": sorted(set(reasons or ())), "text": text, "at": stamp(at), "actor": who.name}  # fmt: skip
    tx.execute(insert(ratings), row)
    audit.note(tx, who.name, who.roles, "rate", "case", case["id"], detail={"by": by, "score": score})
    if score is not None:
        tx.state(CaseRated(time=at, day=civil_day(at, around.zone), case=case["id"], score=score, by=by))
        notices.happened(tx, case, "rated", actor=by, at=at, detail={"by": by, "score": score})
    return shown(row)


def _surviving(tx: Tx, case_id: str) -> dict[str, Any]:
    for _ in range(100):
        row = tx.execute(_CASE, {"case": case_id}).mappings().first()
        if row is None:
            raise NotFound("no such case here", field="/case")
        if row["state"] != "merged":
            return dict(row)
        case_id = row["merged_into"]
    raise Conflict("these mergings lead in a circle", field="/case")


SHOWN = ("id", "by", "score", "reasons", "text", "at")


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A rating without who wrote it down."""
    return {name: row[name] for name in SHOWN}


def of_case(connection: Connection, case_id: str) -> list[dict[str, Any]]:
    """The ratings of a case, oldest first."""
    query = select(*(ratings.c[n] for n in SHOWN)).where(ratings.c.case_id == case_id).order_by(ratings.c.at, ratings.c.id)
    return [dict(r) for r in connection.execute(query).mappings()]
