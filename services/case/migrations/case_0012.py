"""An index by place: what lies near a report is looked for while somebody waits."""

from __future__ import annotations

from alembic import op

revision = "case_0012"
down_revision = "case_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("case_cases_place", "case_cases", ["lat", "lon"])
    op.create_index("case_cases_merged", "case_cases", ["merged_into"])


def downgrade() -> None:
    op.drop_index("case_cases_merged", "case_cases")
    op.drop_index("case_cases_place", "case_cases")
