"""Steps of calendar; filled by the change that brings them."""

from __future__ import annotations

revision = "case_0004"
down_revision = "case_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
