"""Cases, their numbers, pushed events and their quarantine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0001"
down_revision = None
branch_labels = ("case",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "case_cases",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("number", sa.String(40), nullable=False, unique=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("category", sa.String(20), nullable=False),
        sa.Column("edition", sa.String(60), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("provenance", sa.String(16), nullable=False),
        sa.Column("dataset", sa.String(80)),
        sa.Column("lon", sa.Float(), nullable=False),
        sa.Column("lat", sa.Float(), nullable=False),
        sa.Column("division", sa.String(20), nullable=False),
        sa.Column("cell", sa.String(20)),
        sa.Column("text", sa.String(2000)),
        sa.Column("department", sa.String(80)),
        sa.Column("reported_at", sa.String(32), nullable=False),
        sa.Column("filed_at", sa.String(32)),
        sa.Column("due_at", sa.String(32)),
        sa.Column("handled_at", sa.String(32)),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("on_time", sa.Boolean()),
        sa.Column("changed_at", sa.String(32), nullable=False),
    )
    op.create_index("case_cases_changed", "case_cases", ["changed_at", "id"])
    op.create_index("case_cases_state", "case_cases", ["state", "due_at"])
    op.create_table(
        "case_numbers",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("last", sa.Integer(), nullable=False),
    )
    op.create_table(
        "case_platform_cases",
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("subject", sa.String(120), primary_key=True),
        sa.Column("case_id", sa.String(40), nullable=False, unique=True),
    )
    op.create_table(
        "case_pushed",
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("id", sa.String(120), primary_key=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("case_id", sa.String(40), nullable=False),
    )
    op.create_table(
        "case_quarantine",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("event_id", sa.String(120), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("field", sa.String(200)),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("received_at", sa.String(32), nullable=False),
        sa.Column("replayed_at", sa.String(32)),
    )
    op.create_index("case_quarantine_event", "case_quarantine", ["source", "event_id"], unique=True)


def downgrade() -> None:
    op.drop_table("case_quarantine")
    op.drop_table("case_pushed")
    op.drop_table("case_platform_cases")
    op.drop_table("case_numbers")
    op.drop_table("case_cases")
