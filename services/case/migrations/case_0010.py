"""Comments, templates of answers, notices and their rules, the outbox with its webhooks, digests, and what was told in time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "case_0010"
down_revision = "case_0009"
branch_labels = None
depends_on = None

INSTANT = sa.String(32)
CLOCKS = ("warn_at", "late_at", "reply_by")


def upgrade() -> None:
    op.create_table(
        "case_comments",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("case_id", sa.String(40), nullable=False),
        sa.Column("visibility", sa.String(8), nullable=False),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("author", sa.String(120), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("withdrawn_at", INSTANT),
        sa.Column("withdrawn_by", sa.String(120)),
        sa.Column("withdrawn_reason", sa.String(500)),
    )
    op.create_index("case_comments_case", "case_comments", ["case_id", "id"])
    op.create_table(
        "case_templates",
        sa.Column("code", sa.String(40), primary_key=True),
        sa.Column("action", sa.String(24), nullable=False),
        sa.Column("state", sa.String(16)),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("title_zh", sa.String(80), nullable=False),
        sa.Column("title_en", sa.String(80), nullable=False),
        sa.Column("text_zh", sa.String(1500), nullable=False),
        sa.Column("text_en", sa.String(1500), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "case_notice_rules",
        sa.Column("edition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "case_addresses",
        sa.Column("account", sa.String(80), primary_key=True),
        sa.Column("address", sa.String(254), nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("departments", sa.JSON(), nullable=False),
        sa.Column("entered_at", INSTANT, nullable=False),
        sa.Column("entered_by", sa.String(120), nullable=False),
    )
    op.create_table(
        "case_notices",
        sa.Column("event", sa.String(40), primary_key=True),
        sa.Column("target", sa.String(140), primary_key=True),
        sa.Column("case_id", sa.String(40)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
    )
    op.create_index("case_notices_target", "case_notices", ["target", "event"])
    op.create_index("case_notices_at", "case_notices", ["at"])
    op.create_table(
        "case_notices_read",
        sa.Column("account", sa.String(120), primary_key=True),
        sa.Column("event", sa.String(40), primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
    )
    op.create_table(
        "case_told",
        sa.Column("case_id", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("instant", INSTANT, nullable=False),
        sa.Column("clock", sa.String(80), nullable=False),
    )
    op.create_table(
        "case_timers",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
    )
    op.create_table(
        "case_digests",
        sa.Column("week", sa.String(8), primary_key=True),
        sa.Column("target", sa.String(140), primary_key=True),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
    )
    _sending()
    for column in CLOCKS:
        some = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"case_cases_{column}", "case_cases", [column], sqlite_where=some, postgresql_where=some)


def _sending() -> None:
    op.create_table(
        "case_outbox",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("target", sa.String(140), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("next_try_at", INSTANT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("last_error", sa.String(120)),
        sa.Column("lease", sa.String(40)),
        sa.Column("lease_until", INSTANT),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "case_outbox_waiting", "case_outbox", ["target", "place"], sqlite_where=waiting, postgresql_where=waiting
    )  # fmt: skip
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index("case_outbox_ended", "case_outbox", ["state", "ended_at"], sqlite_where=ended, postgresql_where=ended)
    op.create_table(
        "case_webhooks",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("url", sa.String(500), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("categories", sa.JSON(), nullable=False),
        sa.Column("departments", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("made_by", sa.String(120), nullable=False),
        sa.Column("secret", sa.Integer(), nullable=False),
        sa.Column("old_until", INSTANT),
        sa.Column("delivered_at", INSTANT),
        sa.Column("failing_since", INSTANT),
        sa.Column("disabled_why", sa.String(120)),
        sa.Column("removed_at", INSTANT),
    )


TABLES = (
    "case_webhooks", "case_outbox", "case_digests", "case_timers", "case_told", "case_notices_read", "case_notices",
    "case_addresses", "case_notice_rules", "case_templates", "case_comments",
)  # fmt: skip


def downgrade() -> None:
    for column in CLOCKS:
        op.drop_index(f"case_cases_{column}", "case_cases")
    for table in TABLES:
        op.drop_table(table)
