"""What each case counted for, so that it can be corrected and taken back; `sanji recount --mend` fills it for older cases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0003"
down_revision = "evaluation_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluation_cases", sa.Column("part", sa.String(20)))
    op.add_column("evaluation_cases", sa.Column("exempt", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("evaluation_cases", sa.Column("counted", sa.Text(), nullable=False, server_default=""))
    op.add_column("evaluation_totals", sa.Column("exempted", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("evaluation_totals") as table:
        table.drop_column("exempted")
    with op.batch_alter_table("evaluation_cases") as table:
        for name in ("counted", "exempt", "part"):
            table.drop_column(name)
