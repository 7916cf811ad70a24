"""Participation: ratings, groups of reporters of a kind, purses, and a ledger of points that the database itself keeps whole."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0011"
down_revision = "case_0010"
branch_labels = None
depends_on = None

REFUSAL = "the ledger of points is only ever added to"


def upgrade() -> None:
    op.create_table(
        "case_ratings",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("case_id", sa.String(40), nullable=False),
        sa.Column("report_id", sa.String(40), nullable=False),
        sa.Column("by", sa.String(12), nullable=False),
        sa.Column("ending", sa.String(32), nullable=False),
        sa.Column("score", sa.Integer()),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("text", sa.String(500)),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
    )
    op.create_index("case_ratings_case", "case_ratings", ["case_id"])
    op.create_index("case_ratings_once", "case_ratings", ["report_id", "by", "ending"], unique=True)
    op.create_table(
        "case_groups",
        sa.Column("code", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("name_zh", sa.String(120), nullable=False),
        sa.Column("name_en", sa.String(120), nullable=False),
        sa.Column("ended_at", sa.String(32)),
    )
    op.create_table(
        "case_purses",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("group", sa.String(40)),
        sa.Column("made_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "case_contributions",
        sa.Column("case_id", sa.String(40), primary_key=True),
        sa.Column("purse", sa.String(64)),
        sa.Column("group", sa.String(40)),
    )
    op.create_index("case_contributions_group", "case_contributions", ["group"])
    op.create_table(
        "case_points",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("purse", sa.String(64), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("case_id", sa.String(40)),
        sa.Column("rule", sa.String(40)),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
    )
    op.create_index("case_points_purse", "case_points", ["purse", "at"])
    op.create_index("case_points_case", "case_points", ["case_id"])
    op.create_table(
        "case_reward_rules",
        sa.Column("edition", sa.Integer(), primary_key=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )
    _keep_whole()


def _keep_whole() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER case_points_{event.lower()} BEFORE {event} ON case_points "
                f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION case_points_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER case_points_keep BEFORE UPDATE OR DELETE ON case_points "
        "FOR EACH ROW EXECUTE FUNCTION case_points_refuse()"
    )


def downgrade() -> None:
    for name in ("reward_rules", "points", "contributions", "purses", "groups", "ratings"):
        op.drop_table(f"case_{name}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION case_points_refuse()")
