"""Editions of the routing rules, and which of them could not be judged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0008"
down_revision = "case_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "case_rule_sets",
        sa.Column("edition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("valid_from", sa.String(10), nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
        sa.Column("note", sa.String(400), nullable=False),
    )
    op.create_table(
        "case_rule_troubles",
        sa.Column("edition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("rule", sa.String(40), primary_key=True),
        sa.Column("zh", sa.String(400), nullable=False),
        sa.Column("en", sa.String(400), nullable=False),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("case_rule_troubles")
    op.drop_table("case_rule_sets")
