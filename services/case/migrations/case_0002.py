"""When the last step of a case happened, so that no step can be dated before the one that it follows, whichever that was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0002"
down_revision = "case_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("case_cases", sa.Column("last_at", sa.String(32)))


def downgrade() -> None:
    with op.batch_alter_table("case_cases") as table:
        table.drop_column("last_at")
