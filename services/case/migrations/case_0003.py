"""Steps of workflow; filled by the change that brings them."""

from __future__ import annotations

revision = "case_0003"
down_revision = "case_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
