"""The log, its heads and the quarantine of batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "shared_0001"
down_revision = None
branch_labels = ("shared",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("log", sa.String(40), nullable=False),
        sa.Column("fact_id", sa.String(40), nullable=False, unique=True),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("type", sa.String(80), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Integer()),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite")),
        sa.Column("version", sa.Integer()),
        sa.Column("chain", sa.LargeBinary()),
    )
    op.create_index("log_entries_position", "log_entries", ["log", "seq"], unique=True)
    op.create_index("log_entries_subject", "log_entries", ["log", "subject", "version"])
    op.create_table(
        "log_heads",
        sa.Column("reader", sa.String(40), primary_key=True),
        sa.Column("log", sa.String(40), primary_key=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("heard_at", sa.String(40)),
    )
    op.create_table(
        "log_quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("reader", sa.String(40), nullable=False),
        sa.Column("log", sa.String(40), nullable=False),
        sa.Column("first_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("last_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("reason", sa.String(300), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.String(32), nullable=False),
    )
    _keys()
    _leases()


def _keys() -> None:
    op.create_table(
        "auth_keys",
        sa.Column("id", sa.String(24), primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("node", sa.String(20), nullable=False),
        sa.Column("role", sa.String(24), nullable=False),
        sa.Column("holder", sa.String(80), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32)),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("holder", sa.String(60), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("auth_keys")
    op.drop_table("leases")
    op.drop_table("log_quarantine")
    op.drop_table("log_heads")
    op.drop_table("log_entries")
