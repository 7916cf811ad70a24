"""Reporters: what they left, sealed, apart from the cases; the hash of their tracking codes; what they added later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0006"
down_revision = "case_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "case_reporters",
        sa.Column("case_id", sa.String(40), primary_key=True),
        sa.Column("tracking_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("kept_at", sa.String(32), nullable=False),
        sa.Column("bucket", sa.String(7)),
        sa.Column("wrapped", sa.LargeBinary()),
        sa.Column("nonce", sa.LargeBinary()),
        sa.Column("ciphertext", sa.LargeBinary()),
        sa.Column("expires_on", sa.String(10)),
        sa.Column("erased_at", sa.String(32)),
        sa.Column("lost", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index("case_reporters_expires", "case_reporters", ["expires_on"])
    op.create_index("case_reporters_bucket", "case_reporters", ["bucket"])
    unswept = sa.text("wrapped IS NULL AND bucket IS NOT NULL")
    op.create_index(
        "case_reporters_unswept", "case_reporters", ["case_id"], sqlite_where=unswept, postgresql_where=unswept
    )  # fmt: skip
    op.create_table(
        "case_report_additions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("case_id", sa.String(40), nullable=False),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("case_report_additions_case", "case_report_additions", ["case_id", "at"])


def downgrade() -> None:
    op.drop_table("case_report_additions")
    op.drop_table("case_reporters")
