"""Webhooks: the endpoints of other systems that are called when something happens to a case, and how the calls are signed.

A secret is not kept anywhere: it is derived from the node's own key and the number of times that it was changed. So neither the
database nor a backup of it lets anybody sign, and for a while after a change the one before is still valid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import JSON, Boolean, Column, Connection, Integer, String, Table, func, insert, select, update

from services.case.tables import INSTANT, metadata
from services.case.telling import Event, Narrowed
from services.case.texts import Plain
from shared.clock import stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, NotFound

webhooks = Table(
    "case_webhooks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("url", String(500), nullable=False),
    Column("note", String(200), nullable=False),
    Column("events", JSON, nullable=False),
    Column("categories", JSON, nullable=False),
    Column("departments", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("made_at", INSTANT, nullable=False),
    Column("made_by", String(120), nullable=False),
    # How often the secret was changed, and until when the one before the last change is valid.
    Column("secret", Integer, nullable=False),
    Column("old_until", INSTANT),
    Column("delivered_at", INSTANT),
    Column("failing_since", INSTANT),
    Column("disabled_why", String(120)),
    Column("removed_at", INSTANT),
)
"""One row an endpoint; a removed one stays as a row, so that what was sent to it can still be told."""

MOST = 50
KEY_BYTES = 32


class Subscription(Narrowed):
    """What an endpoint wants to be called for, and where it is."""

    url: str = Field(max_length=500, examples=["https://receiver.example/sanji"])
    note: Plain(200) = Field("", description="what it is for")  # type: ignore[valid-type]
    events: Annotated[tuple[Event, ...], Field(strict=False, min_length=1, max_length=30)]
    enabled: bool = True


def target(webhook_id: str) -> str:
    """As the outbox names an endpoint."""
    return f"webhook:{webhook_id}"


def register(tx: Tx, wanted: Subscription, by: str) -> dict[str, Any]:
    """Enter an endpoint; answers its row. Raises Conflict where there are too many."""
    count = tx.execute(select(func.count()).where(webhooks.c.removed_at.is_(None))).scalar_one()
    if count >= MOST:
        raise Conflict(f"a node has at most {MOST} webhooks; remove one first")
    row = {"id": tx.new_id(), **_said(wanted), "made_at": stamp(tx.now()), "made_by": by, "secret": 1}
    tx.execute(insert(webhooks), row)
    return one(tx.connection, row["id"])


def change(tx: Tx, webhook_id: str, wanted: Subscription) -> dict[str, Any]:
    """Change what an endpoint wants; switching it on again forgets its failures. Raises NotFound."""
    one(tx.connection, webhook_id)
    again: dict[str, Any] = {"failing_since": None, "disabled_why": None} if wanted.enabled else {}
    tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**_said(wanted), **again))
    return one(tx.connection, webhook_id)


def _said(wanted: Subscription) -> dict[str, Any]:
    return wanted.model_dump(mode="json")


def remove(tx: Tx, webhook_id: str) -> None:
    """Nothing is sent there any more. Raises NotFound."""
    one(tx.connection, webhook_id)
    tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(enabled=False, removed_at=stamp(tx.now())))


def rotate(tx: Tx, webhook_id: str, hours: int) -> dict[str, Any]:
    """Change the secret; for `hours` calls are signed with the old one, too. Raises NotFound."""
    row = one(tx.connection, webhook_id)
    fresh = {"secret": row["secret"] + 1, "old_until": stamp(tx.now() + timedelta(hours=hours)) if hours else None}
    tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**fresh))
    return one(tx.connection, webhook_id)


def one(connection: Connection, webhook_id: str) -> dict[str, Any]:
    """The row of an endpoint. Raises NotFound."""
    wanted = select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.removed_at.is_(None))
    found = connection.execute(wanted).mappings().first()
    if found is None:
        raise NotFound("no such webhook here", field="/webhook_id")
    return dict(found)


def every(connection: Connection) -> list[dict[str, Any]]:
    """All endpoints in order of registration."""
    wanted = select(webhooks).where(webhooks.c.removed_at.is_(None)).order_by(webhooks.c.made_at, webhooks.c.id)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def subscription(row: Any) -> Subscription:
    """What an endpoint's row says that it wants."""
    return Subscription.model_validate({name: row[name] for name in Subscription.model_fields})


def took(tx: Tx, webhook_id: str) -> None:
    """The endpoint took a call."""
    tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(delivered_at=stamp(tx.now()), failing_since=None))


def failed(tx: Tx, webhook_id: str, error: str, patience: timedelta, *, gone: bool) -> bool:
    """The endpoint did not take a call; answers whether it was switched off, having failed for so long, or being gone."""
    row = one(tx.connection, webhook_id)
    since = row["failing_since"] or stamp(tx.now())
    off = bool(row["enabled"]) and (gone or tx.now() - unstamp(since) >= patience)
    values: dict[str, Any] = {"failing_since": since} | ({"enabled": False, "disabled_why": error} if off else {})
    tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**values))
    return off


# Signatures ----------------------------------------------------------------------------------------------------------------


class Signer:
    """Signs calls by the Standard Webhooks scheme with secrets derived from the node's key in the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _key(self) -> bytes:
        if not self.path.exists():
            self._make()
        if len(key := self.path.read_bytes()) != KEY_BYTES:
            raise RuntimeError(f"{self.path.name} among the secrets is not a key of {KEY_BYTES} bytes")
        return key

    def _make(self) -> None:
        """Make the key whole or not at all, for its owner only; of two processes at it the first one's holds."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_name(f"{self.path.name}.{secrets.token_hex(6)}")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, self.path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()

    def _bytes(self, webhook_id: str, number: int) -> bytes:
        return hmac.digest(self._key(), f"webhook\0{webhook_id}\0{number}".encode(), hashlib.sha256)

    def secret(self, row: Any) -> str:
        """The secret of an endpoint as its owner is shown it."""
        return "whsec_" + base64.b64encode(self._bytes(row["id"], row["secret"])).decode()

    def headers(self, row: Any, message: str, at: datetime, body: bytes) -> dict[str, str]:
        """The three headers of a call, made anew for each attempt; one signature for each secret that is valid."""
        numbers = [row["secret"]] + ([row["secret"] - 1] if row["old_until"] and stamp(at) < row["old_until"] else [])
        moment = str(int(at.timestamp()))
        content = f"{message}.{moment}.".encode() + body
        made = [base64.b64encode(hmac.digest(self._bytes(row["id"], n), content, hashlib.sha256)).decode() for n in numbers]
        return {"webhook-id": message, "webhook-timestamp": moment, "webhook-signature": " ".join(f"v1,{m}" for m in made)}
