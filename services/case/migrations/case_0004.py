"""The node's calendar: its own days, the years that were loaded, and editions of its working periods."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0004"
down_revision = "case_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "case_calendar_days",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name_zh", sa.String(40), nullable=False),
        sa.Column("name_en", sa.String(80), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("entered_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "case_calendar_years",
        sa.Column("year", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("entered_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "case_calendar_periods",
        sa.Column("valid_from", sa.String(10), primary_key=True),
        sa.Column("seasons", sa.JSON(), nullable=False),
        sa.Column("entered_at", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("case_calendar_periods")
    op.drop_table("case_calendar_years")
    op.drop_table("case_calendar_days")
