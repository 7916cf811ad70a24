"""Cases as evaluation knows them, and totals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0001"
down_revision = None
branch_labels = ("evaluation",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluation_cases",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("division", sa.String(20), nullable=False),
        sa.Column("cell", sa.String(20)),
        sa.Column("category", sa.String(20), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("provenance", sa.String(16), nullable=False),
        sa.Column("reported_at", sa.String(32), nullable=False),
        sa.Column("due_at", sa.String(32)),
        sa.Column("closed_at", sa.String(32)),
        sa.Column("seconds", sa.BigInteger()),
        sa.Column("open", sa.Boolean(), nullable=False),
    )
    op.create_index("evaluation_cases_overdue", "evaluation_cases", ["open", "due_at"])
    op.create_table(
        "evaluation_totals",
        sa.Column("origin", sa.String(20), primary_key=True),
        sa.Column("division", sa.String(20), primary_key=True),
        sa.Column("category", sa.String(20), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("provenance", sa.String(16), primary_key=True),
        sa.Column("reported", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("filed", sa.Integer(), nullable=False),
        sa.Column("closed", sa.Integer(), nullable=False),
        sa.Column("closed_on_time", sa.Integer(), nullable=False),
        sa.Column("reworked", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("evaluation_totals")
    op.drop_table("evaluation_cases")
