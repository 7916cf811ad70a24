"""Editions of the catalogue, and the categories that a node added for itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0007"
down_revision = "case_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "case_editions",
        sa.Column("code", sa.String(40), primary_key=True),
        sa.Column("node", sa.String(20), nullable=False),
        sa.Column("valid_from", sa.String(10)),
        sa.Column("valid_to", sa.String(10)),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("entered_at", sa.String(32), nullable=False),
        sa.Column("withdrawn_at", sa.String(32)),
    )
    op.create_table(
        "case_additions",
        sa.Column("category", sa.String(20), primary_key=True),
        sa.Column("valid_from", sa.String(10), primary_key=True),
        sa.Column("valid_to", sa.String(10)),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("entered_at", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("case_additions")
    op.drop_table("case_editions")
