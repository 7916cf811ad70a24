"""Tables of the case service."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

INSTANT = String(32)
"""UTC in ISO 8601 with a fixed count of digits, so that text order is time order on both databases."""

cases = Table(
    "case_cases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("number", String(40), nullable=False, unique=True),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("category", String(20), nullable=False),
    Column("edition", String(60), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("provenance", String(16), nullable=False),
    Column("dataset", String(80)),
    Column("lon", Float, nullable=False),
    Column("lat", Float, nullable=False),
    Column("division", String(20), nullable=False),
    Column("cell", String(20)),
    Column("text", String(2000)),
    Column("department", String(80)),
    Column("reported_at", INSTANT, nullable=False),
    Column("filed_at", INSTANT),
    Column("due_at", INSTANT),
    Column("handled_at", INSTANT),
    Column("ended_at", INSTANT),
    Column("on_time", Boolean),
    # When the last step happened, which `changed_at` does not say: it is when this node learnt of it.
    Column("last_at", INSTANT),
    Column("changed_at", INSTANT, nullable=False),
    Index("case_cases_changed", "changed_at", "id"),
    Index("case_cases_state", "state", "due_at"),
)

numbers = Table(
    "case_numbers",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("last", Integer, nullable=False),
)
"""The daily sequence behind the number that people read out."""

pushed = Table(
    "case_pushed",
    metadata,
    Column("source", String(200), primary_key=True),
    Column("id", String(120), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("case_id", String(40), nullable=False),
)
"""Events that a platform pushed and that were accepted, for idempotency by (source, id)."""

platform_cases = Table(
    "case_platform_cases",
    metadata,
    Column("source", String(200), primary_key=True),
    Column("subject", String(120), primary_key=True),
    Column("case_id", String(40), nullable=False, unique=True),
)
"""A platform's own case id beside ours."""

quarantine = Table(
    "case_quarantine",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("source", String(200), nullable=False),
    Column("event_id", String(120), nullable=False),
    Column("event", JSON, nullable=False),
    Column("field", String(200)),
    Column("reason", String(500), nullable=False),
    Column("received_at", INSTANT, nullable=False),
    Column("replayed_at", INSTANT),
    Index("case_quarantine_event", "source", "event_id", unique=True),
)
"""Refused items of the push API, waiting to be corrected and replayed."""
