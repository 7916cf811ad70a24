"""Leases in the database: of several copies of a service exactly one works on a thing at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Column, Engine, String, Table, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from shared.clock import stamp
from shared.database import metadata

leases = Table(
    "leases",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("holder", String(60), nullable=False),
    Column("until", String(32), nullable=False),
)
"""A lease keeps copies out of one another's way; that no fact is folded twice rests on the heads, never on a clock."""


def hold(engine: Engine, name: str, holder: str, at: datetime, seconds: float = 15) -> bool:
    """Take or renew the lease `name`; False while another holder's runs."""
    values = {"holder": holder, "until": stamp(at + timedelta(seconds=seconds))}
    free = or_(leases.c.holder == holder, leases.c.until < stamp(at))
    try:
        with engine.begin() as connection:
            if connection.execute(update(leases).where(leases.c.name == name, free).values(**values)).rowcount:
                return True
            if connection.execute(select(leases.c.name).where(leases.c.name == name)).first():
                return False
            connection.execute(insert(leases), {"name": name, **values})
            return True
    except IntegrityError:
        # Another copy was first.
        return False


def release(engine: Engine, holder: str) -> None:
    """Give back everything at an orderly stop, so that nobody has to wait for the end of a lease."""
    with engine.begin() as connection:
        connection.execute(delete(leases).where(leases.c.holder == holder))
