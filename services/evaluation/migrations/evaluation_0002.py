"""A case as third parties read it: state, place, number, department and every instant; `sanji recount --mend` fills old rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0002"
down_revision = "evaluation_0001"
branch_labels = None
depends_on = None

ADDED = (
    ("number", sa.String(80)), ("edition", sa.String(60)), ("dataset", sa.String(80)), ("lon", sa.Float()),
    ("lat", sa.Float()), ("state", sa.String(16)), ("department", sa.String(80)), ("filed_at", sa.String(32)),
    ("handled_at", sa.String(32)), ("ended_at", sa.String(32)), ("on_time", sa.Boolean()), ("changed_at", sa.String(32)),
)  # fmt: skip


def upgrade() -> None:
    for name, kind in ADDED:
        op.add_column("evaluation_cases", sa.Column(name, kind))
    with op.batch_alter_table("evaluation_cases") as table:
        table.drop_column("closed_at")
    op.create_index("evaluation_cases_changed", "evaluation_cases", ["changed_at", "id"])


def downgrade() -> None:
    op.drop_index("evaluation_cases_changed", "evaluation_cases")
    with op.batch_alter_table("evaluation_cases") as table:
        for name, _ in ADDED:
            table.drop_column(name)
        table.add_column(sa.Column("closed_at", sa.String(32)))
