"""Comments 批注 on a case: internal ones for the staff, public ones for whoever follows the report; never changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Column, Connection, Index, Integer, String, Table, bindparam, func, insert, select, update

from services.case import notices
from services.case.tables import INSTANT, cases, metadata
from shared import audit
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict, Forbidden, NotFound

Visibility = Literal["internal", "public"]

comments = Table(
    "case_comments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("case_id", String(40), nullable=False),
    Column("visibility", String(8), nullable=False),
    Column("text", String(2000), nullable=False),
    Column("author", String(120), nullable=False),
    Column("at", INSTANT, nullable=False),
    # The version that the case had then, so that a comment stands at its place in the timeline.
    Column("version", Integer, nullable=False),
    Column("withdrawn_at", INSTANT),
    Column("withdrawn_by", String(120)),
    Column("withdrawn_reason", String(500)),
    Index("case_comments_case", "case_id", "id"),
)

MOST = 500
"""Comments on one case; what needs more is not a comment."""
SPEAKERS = frozenset({"acceptor", "shift_supervisor", "dispatcher", "administrator"})
"""Who may answer the public: the centre's desks. Departments see the problem and not whoever reported it."""
WITHDRAWERS = frozenset({"shift_supervisor", "administrator"})
READERS = frozenset({"auditor", "administrator"})
"""Who still sees what a withdrawn comment said."""

_CASE = select(cases).where(cases.c.id == bindparam("case"))
_OF_CASE = select(comments).where(comments.c.case_id == bindparam("case")).order_by(comments.c.id)
_PUBLIC = (
    select(comments.c.id, comments.c.at, comments.c.text)
    .where(comments.c.case_id == bindparam("case"), comments.c.visibility == "public", comments.c.withdrawn_at.is_(None))
    .order_by(comments.c.id)
)


def add(tx: Tx, case_id: str, visibility: Visibility, text: str, who: Caller) -> dict[str, Any]:
    """Comment on a case; answers the comment. Raises NotFound, Forbidden, Conflict where there are too many."""
    row = _case(tx.connection, case_id)
    if visibility == "public" and not who.roles & SPEAKERS:
        raise Forbidden(f"the public is answered by one of: {', '.join(sorted(SPEAKERS))}")
    _own_department(row, who)
    if tx.execute(select(func.count()).where(comments.c.case_id == case_id)).scalar_one() >= MOST:
        raise Conflict(f"a case has at most {MOST} comments")
    fresh = {"id": tx.new_id(), "case_id": case_id, "visibility": visibility, "text": text, "author": who.name,
             "at": stamp(tx.now()), "version": row["version"]}  # fmt: skip
    tx.execute(insert(comments), fresh)
    codes = {"comment": fresh["id"], "visibility": visibility}
    audit.note(tx, who.name, who.roles, "comment", "case", case_id, detail=codes)
    notices.happened(tx, row, "commented", actor=who.name, detail=codes)
    return fresh | dict.fromkeys(("withdrawn_at", "withdrawn_by", "withdrawn_reason"))


def _own_department(row: Mapping[str, Any], who: Caller) -> None:
    """Who acts for departments only speaks to their cases."""
    bound = who.roles <= {"department", "handler"} and who.departments
    if bound and not who.departments & {row["department"], *(row["helpers"] or ())}:
        raise Forbidden("this case lies with another department")


def withdraw(tx: Tx, case_id: str, comment_id: str, reason: str, who: Caller) -> dict[str, Any]:
    """Take a comment back; it stays as a row. By its author, or one of the desks that answer for all.

    Raises NotFound, Forbidden, Conflict where it is withdrawn already.
    """
    row = tx.execute(select(comments).where(comments.c.id == comment_id, comments.c.case_id == case_id)).mappings().first()
    if row is None:
        raise NotFound("no such comment on this case", field="/comment_id")
    if row["author"] != who.name and not who.roles & WITHDRAWERS:
        raise Forbidden(f"a comment is withdrawn by its author or by one of: {', '.join(sorted(WITHDRAWERS))}")
    if row["withdrawn_at"] is not None:
        raise Conflict("this comment is withdrawn already", field="/comment_id")
    values = {"withdrawn_at": stamp(tx.now()), "withdrawn_by": who.name, "withdrawn_reason": reason}
    tx.execute(update(comments).where(comments.c.id == comment_id).values(**values))
    audit.note(tx, who.name, who.roles, "withdraw_comment", "case", case_id, detail={"comment": comment_id})
    return shown(dict(row) | values, who)


def listed(connection: Connection, case_id: str, who: Caller) -> list[dict[str, Any]]:
    """All comments on a case for its staff, oldest first. Raises NotFound."""
    _case(connection, case_id)
    return [shown(dict(row), who) for row in connection.execute(_OF_CASE, {"case": case_id}).mappings()]


def shown(row: Mapping[str, Any], who: Caller) -> dict[str, Any]:
    """A comment; of a withdrawn one the text only for those who look after the fact."""
    hidden = row["withdrawn_at"] is not None and not who.roles & READERS
    return dict(row) | ({"text": None} if hidden else {})


def standing(connection: Connection, case_id: str) -> list[dict[str, Any]]:
    """The comments that were not withdrawn, oldest first."""
    return [dict(row) for row in connection.execute(_OF_CASE, {"case": case_id}).mappings() if row["withdrawn_at"] is None]


def public_of(connection: Connection, case_id: str) -> list[dict[str, Any]]:
    """What whoever has the tracking code may read: `id`, `at` and `text` of public comments that stand, oldest first."""
    return [dict(row) for row in connection.execute(_PUBLIC, {"case": case_id}).mappings()]


def _case(connection: Connection, case_id: str) -> Mapping[str, Any]:
    found = connection.execute(_CASE, {"case": case_id}).mappings().first()
    if found is None:
        raise NotFound("no such case here", field="/case")
    return dict(found)
