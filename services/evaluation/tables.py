"""Tables of the evaluation service: one row a case, and totals that facts move."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, false

metadata = MetaData()

cases = Table(
    "evaluation_cases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("origin", String(20), nullable=False),
    Column("division", String(20), nullable=False),
    Column("cell", String(20)),
    Column("category", String(20), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("provenance", String(16), nullable=False),
    Column("number", String(80)),
    Column("edition", String(60)),
    Column("dataset", String(80)),
    Column("part", String(20)),
    Column("lon", Float),
    Column("lat", Float),
    Column("reported_at", String(32), nullable=False),
    Column("state", String(16)),
    Column("department", String(80)),
    Column("filed_at", String(32)),
    Column("due_at", String(32)),
    Column("handled_at", String(32)),
    Column("ended_at", String(32)),
    Column("on_time", Boolean),
    Column("seconds", BigInteger),
    Column("open", Boolean, nullable=False),
    # Overdue when it was closed, and taken out of the overdue figures by a granted appeal.
    Column("exempt", Boolean, nullable=False, server_default=false()),
    # What totals hold because of this case; domain.py says how it is written.
    Column("counted", Text, nullable=False, server_default=""),
    Column("changed_at", String(32)),
    Index("evaluation_cases_overdue", "open", "due_at"),
    Index("evaluation_cases_changed", "changed_at", "id"),
)
"""Latest knowledge of each case: codes and instants only."""

totals = Table(
    "evaluation_totals",
    metadata,
    Column("origin", String(20), primary_key=True),
    Column("division", String(20), primary_key=True),
    Column("category", String(20), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("provenance", String(16), primary_key=True),
    Column("reported", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("filed", Integer, nullable=False),
    Column("closed", Integer, nullable=False),
    Column("closed_on_time", Integer, nullable=False),
    Column("reworked", Integer, nullable=False),
    Column("exempted", Integer, nullable=False, server_default="0"),
)
"""How often each thing happened, on the civil day on which it happened at the origin; an exemption on the day of its closing."""

QUANTITIES = ("reported", "refused", "filed", "closed", "closed_on_time", "reworked", "exempted")
