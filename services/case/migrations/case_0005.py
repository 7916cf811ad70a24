"""Photos of cases: what is known of each, and the names of its picture and thumbnail in the store of objects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0005"
down_revision = "case_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "case_photos",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("case_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("thumb", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("lon", sa.Float()),
        sa.Column("lat", sa.Float()),
        sa.Column("taken_at", sa.String(32)),
        sa.Column("added_at", sa.String(32), nullable=False),
        sa.Column("added_by_role", sa.String(24), nullable=False),
        sa.Column("withheld", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("withheld_reason", sa.String(500)),
    )
    op.create_index("case_photos_same", "case_photos", ["case_id", "kind", "digest"], unique=True)
    op.create_index("case_photos_digest", "case_photos", ["digest"])
    op.create_index("case_photos_thumb", "case_photos", ["thumb"])


def downgrade() -> None:
    op.drop_table("case_photos")
