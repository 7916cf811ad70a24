"""Steps of desk; filled by the change that brings them."""

from __future__ import annotations

revision = "case_0009"
down_revision = "case_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
