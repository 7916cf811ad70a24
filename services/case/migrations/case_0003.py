"""The whole workflow: what each case carries through it, its timeline, the node's policy, and keys against double reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0003"
down_revision = "case_0002"
branch_labels = None
depends_on = None

TEXTS = {
    "application": 40, "located": 12, "part": 40, "place": 400, "condition": 40, "limit": 12, "verified": 12, "handler": 120,
    "checked_by": 120, "means": 16, "stage": 16, "warn_at": 32, "late_at": 32, "before": 16, "wakes_at": 32, "reply_by": 32,
    "appealed": 12, "merged_into": 40, "parent": 40,
}  # fmt: skip
DOCUMENTS = ("answers", "rule", "helpers", "hands", "returned_by", "clocks", "pending")
COUNTS = ("postponements", "suspensions", "reopenings", "joined")


def upgrade() -> None:
    for name, length in TEXTS.items():
        op.add_column("case_cases", sa.Column(name, sa.String(length)))
    for name in DOCUMENTS:
        op.add_column("case_cases", sa.Column(name, sa.JSON()))
    for name in COUNTS:
        op.add_column("case_cases", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("case_cases", sa.Column("failed_check", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("case_cases_wakes", "case_cases", ["wakes_at"])
    op.create_index("case_cases_cell", "case_cases", ["cell", "reported_at"])
    op.create_index("case_cases_part", "case_cases", ["part"])
    op.create_table(
        "case_steps",
        sa.Column("case_id", sa.String(40), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("action", sa.String(24), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("noted_at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
        sa.Column("roles", sa.String(200), nullable=False),
        sa.Column("department", sa.String(80)),
        sa.Column("opinion", sa.String(2000)),
        sa.Column("detail", sa.JSON()),
        sa.Column("clock", sa.JSON()),
    )
    op.create_table(
        "case_policies",
        sa.Column("edition", sa.Integer(), primary_key=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "case_requests",
        sa.Column("caller", sa.String(120), primary_key=True),
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("case_id", sa.String(40), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("case_requests_at", "case_requests", ["at"])


def downgrade() -> None:
    for name in ("case_requests", "case_policies", "case_steps"):
        op.drop_table(name)
    for name in ("part", "cell", "wakes"):
        op.drop_index(f"case_cases_{name}", "case_cases")
    with op.batch_alter_table("case_cases") as table:
        for name in (*TEXTS, *DOCUMENTS, *COUNTS, "failed_check"):
            table.drop_column(name)
