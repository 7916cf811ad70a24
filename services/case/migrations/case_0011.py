"""Steps of participation; filled by the change that brings them."""

from __future__ import annotations

revision = "case_0011"
down_revision = "case_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
