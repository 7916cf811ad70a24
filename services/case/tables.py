"""Tables of the case service."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, false

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
    # How it came in.
    Column("application", String(40)),
    Column("located", String(12)),
    Column("part", String(40)),
    Column("place", String(400)),
    Column("answers", JSON),
    # What was decided about it.
    Column("condition", String(40)),
    Column("limit", String(12)),
    Column("verified", String(12)),
    Column("rule", JSON),
    Column("helpers", JSON),
    Column("handler", String(120)),
    Column("hands", JSON),
    Column("returned_by", JSON),
    Column("checked_by", String(120)),
    Column("means", String(16)),
    # Clocks by stage, and of the one that counts now when it turns yellow and red.
    Column("clocks", JSON),
    Column("stage", String(16)),
    Column("warn_at", INSTANT),
    Column("late_at", INSTANT),
    # Where it goes back to from where something was asked for.
    Column("before", String(16)),
    Column("pending", JSON),
    Column("wakes_at", INSTANT),
    Column("postponements", Integer, nullable=False, server_default="0"),
    Column("suspensions", Integer, nullable=False, server_default="0"),
    Column("reopenings", Integer, nullable=False, server_default="0"),
    Column("joined", Integer, nullable=False, server_default="0"),
    # Supervision 督办: until when an answer is asked for, null when there is none.
    Column("reply_by", INSTANT),
    Column("appealed", String(12)),
    Column("failed_check", Boolean, nullable=False, server_default=false()),
    Column("merged_into", String(40)),
    Column("parent", String(40)),
    Index("case_cases_changed", "changed_at", "id"),
    Index("case_cases_state", "state", "due_at"),
    Index("case_cases_wakes", "wakes_at"),
    Index("case_cases_cell", "cell", "reported_at"),
    Index("case_cases_part", "part"),
    Index("case_cases_place", "lat", "lon"),
    Index("case_cases_merged", "merged_into"),
)

steps = Table(
    "case_steps",
    metadata,
    Column("case_id", String(40), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("action", String(24), nullable=False),
    Column("source", String(16), nullable=False),
    Column("target", String(16), nullable=False),
    Column("at", INSTANT, nullable=False),
    Column("noted_at", INSTANT, nullable=False),
    Column("actor", String(120), nullable=False),
    Column("roles", String(200), nullable=False),
    Column("department", String(80)),
    Column("opinion", String(2000)),
    Column("detail", JSON),
    # What the step did to the clocks: the stage that ended with its use, the deadline that moved.
    Column("clock", JSON),
)
"""The timeline of each case: one row a step, only ever added to; `version` is the one that the case had after it."""

requests = Table(
    "case_requests",
    metadata,
    Column("caller", String(120), primary_key=True),
    Column("key", String(80), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("case_id", String(40), nullable=False),
    Column("at", INSTANT, nullable=False),
    Index("case_requests_at", "at"),
)
"""Idempotency keys of reports: the same key with the same body is the same report."""

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
