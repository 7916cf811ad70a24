"""Steps of duplicates; filled by the change that brings them."""

from __future__ import annotations

revision = "case_0012"
down_revision = "case_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
