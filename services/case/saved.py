"""Saved filters 常用筛选: lists that somebody comes back to, under a name, his own or shared with a role that he has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, Column, Connection, Index, String, Table, delete, func, insert, or_, select, update

from services.case.lists import Filters
from services.case.tables import INSTANT, metadata
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict, Forbidden, NotFound

filters = Table(
    "case_filters",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(120), nullable=False),
    Column("name", String(80), nullable=False),
    Column("query", JSON, nullable=False),
    Column("shared_with", String(24)),
    Column("changed_at", INSTANT, nullable=False),
    Index("case_filters_owner", "owner", "name", unique=True),
    Index("case_filters_shared", "shared_with"),
)
MOST = 50
"""Filters of one person."""


def seen(connection: Connection, who: Caller) -> list[dict[str, Any]]:
    """His own filters and those shared with one of his roles, by name; `mine` says which he may change."""
    visible = or_(filters.c.owner == who.name, filters.c.shared_with.in_(sorted(who.roles)))
    query = select(filters).where(visible).order_by(filters.c.name, filters.c.id)
    return [_shown(dict(row), who) for row in connection.execute(query).mappings()]


def save(tx: Tx, who: Caller, name: str, query: Filters, shared_with: str | None, ident: str | None = None) -> dict[str, Any]:
    """Keep a new filter, or change the one with the id `ident`.

    Raises Invalid for a filter that could not be used, Forbidden to share with a role that he has not, Conflict for a name that
    he uses already or one filter too many, NotFound.
    """
    query.checked()
    if shared_with is not None and shared_with not in who.roles:
        raise Forbidden("a filter is shared with a role that one has oneself", field="/shared_with")
    kept = query.model_dump(exclude_none=True)
    values = {"name": name, "query": kept, "shared_with": shared_with, "changed_at": stamp(tx.now())}
    mine = filters.c.owner == who.name
    same = tx.execute(select(filters.c.id).where(mine, filters.c.name == name)).scalar()
    if same is not None and same != ident:
        raise Conflict("another filter has this name", field="/name")
    if ident is None:
        if tx.execute(select(func.count()).select_from(filters).where(mine)).scalar_one() >= MOST:
            raise Conflict(f"nobody keeps more than {MOST} filters: remove one first")
        ident = tx.new_id()
        tx.execute(insert(filters), {"id": ident, "owner": who.name, **values})
    elif tx.execute(update(filters).where(filters.c.id == ident, mine).values(**values)).rowcount != 1:
        raise NotFound("no filter of yours has this id", field="/filter")
    return _shown({"id": ident, "owner": who.name, **values}, who)


def remove(tx: Tx, who: Caller, ident: str) -> None:
    """Raises NotFound, also for a filter of somebody else."""
    if tx.execute(delete(filters).where(filters.c.id == ident, filters.c.owner == who.name)).rowcount != 1:
        raise NotFound("no filter of yours has this id", field="/filter")


def _shown(row: Mapping[str, Any], who: Caller) -> dict[str, Any]:
    names = ("id", "name", "query", "shared_with", "changed_at")
    return {name: row[name] for name in names} | {"mine": row["owner"] == who.name}
