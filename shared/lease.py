"""Leases in the database: of several copies of a service exactly one works on a thing at a time."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Column, Engine, String, Table, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from shared.clock import stamp
from shared.database import metadata, reading

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


def join(engine: Engine, group: str, holder: str, at: datetime) -> list[str]:
    """Say that the copy `holder` lives; answers all copies of the group that do, itself included."""
    hold(engine, f"copy {group} {holder}", holder, at)
    with reading(engine) as connection:
        living = (leases.c.name.startswith(f"copy {group} ", autoescape=True), leases.c.until >= stamp(at))
        return sorted({holder, *(row.holder for row in connection.execute(select(leases.c.holder).where(*living)))})


def owner(name: str, copies: list[str]) -> str:
    """Which of the living copies a thing falls to: the same answer at each of them, and evenly spread."""
    return max(copies, key=lambda copy: hashlib.sha256(f"{copy}\0{name}".encode()).digest())


def release(engine: Engine, holder: str, name: str | None = None) -> None:
    """Give back one lease, or everything at an orderly stop, so that nobody has to wait for its end."""
    mine = [leases.c.holder == holder] + ([leases.c.name == name] if name else [])
    with engine.begin() as connection:
        connection.execute(delete(leases).where(*mine))
