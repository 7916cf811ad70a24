"""The search's index, saved filters, and the orders in which the desks read the cases; old cases become findable."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.case.postings import adopt

revision = "case_0009"
down_revision = "case_0008"
branch_labels = None
depends_on = None

SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DESK = ["state", "department", "handler", "warn_at", "late_at", "due_at", "reported_at", "id"]
ENDED = ("refused", "declined", "withdrawn", "void", "closed", "forced", "merged")
OPEN = sa.text(f"state NOT IN ({', '.join(repr(state) for state in ENDED)})")
CHILD = sa.text("parent IS NOT NULL")
HELPED = sa.text(f"CAST(helpers AS TEXT) <> 'null' AND {OPEN.text}")


def upgrade() -> None:
    op.create_table(
        "case_texts",
        sa.Column("seq", SEQ, primary_key=True),
        sa.Column("case_id", sa.String(40), nullable=False, unique=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("added", sa.Text(), nullable=False),
    )
    op.create_table("case_texts_fresh", sa.Column("seq", SEQ, primary_key=True, autoincrement=False))
    op.create_table(
        "case_postings",
        sa.Column("block", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("first", sa.LargeBinary(), primary_key=True),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.Column("ends", sa.LargeBinary(), nullable=False),
        sa.Column("docs", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "case_blocks",
        sa.Column("block", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("first_at", sa.String(32), nullable=False),
        sa.Column("last_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "case_filters",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("owner", sa.String(120), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("query", sa.JSON(), nullable=False),
        sa.Column("shared_with", sa.String(24)),
        sa.Column("changed_at", sa.String(32), nullable=False),
    )
    op.create_index("case_filters_owner", "case_filters", ["owner", "name"], unique=True)
    op.create_index("case_filters_shared", "case_filters", ["shared_with"])
    op.create_index("case_cases_desk", "case_cases", DESK, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("case_cases_helped", "case_cases", ["stage", "id"], sqlite_where=HELPED, postgresql_where=HELPED)
    op.create_index("case_cases_by_state", "case_cases", ["state", "changed_at", "id"])
    op.create_index("case_cases_by_department", "case_cases", ["department", "changed_at", "id"])
    op.create_index("case_cases_by_report", "case_cases", ["reported_at", "id"])
    op.create_index("case_cases_open", "case_cases", ["changed_at", "id"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("case_cases_open_due", "case_cases", ["due_at", "id"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("case_cases_division", "case_cases", ["division"])
    op.create_index("case_cases_parent", "case_cases", ["parent"], sqlite_where=CHILD, postgresql_where=CHILD)
    adopt(op.get_bind())


def downgrade() -> None:
    for name in ("parent", "division", "open_due", "open", "by_report", "by_department", "by_state", "helped", "desk"):
        op.drop_index(f"case_cases_{name}", "case_cases")
    for name in ("case_filters", "case_blocks", "case_postings", "case_texts_fresh", "case_texts"):
        op.drop_table(name)
