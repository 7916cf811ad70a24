"""Applies batches of a log for one reader: verify, keep the bytes, fold, move the head, all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError
from sqlalchemy import Column, Connection, Engine, Integer, LargeBinary, String, Table, delete, func, insert, select

from contracts.base import REGISTRY, Fact
from shared.chain import Entry, Head, decode
from shared.clock import stamp
from shared.database import metadata, now, reading
from shared.log import Big, Repeated, head, heads, keep, move_head
from shared.replica import Apply, Duplicate, Gap, Judgement, Wrong, judge

Fold = Callable[[Connection, str, Sequence[Fact]], None]
"""What a service does with verified facts of one origin, in order; it gets the connection, the origin's code and the facts."""

quarantine = Table(
    "log_quarantine",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("reader", String(40), nullable=False),
    Column("log", String(40), nullable=False),
    Column("first_seq", Big, nullable=False),
    Column("last_seq", Big, nullable=False),
    Column("reason", String(300), nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("times", Integer, nullable=False),
    Column("received_at", String(32), nullable=False),
)
"""Batches that were never applied because they are wrong."""


class Unknown(Exception):
    """A fact that this release cannot read or must not believe: nothing of its batch is applied, the log waits."""


@dataclass
class Reader:
    """One service's view of the logs it hears. Thread-safe as far as the database is: heads move by compare and set."""

    name: str
    engine: Engine
    fold: Fold
    counts: dict[str, int] = field(default_factory=dict)

    def take(self, origin: str, service: str, message: bytes) -> Judgement:
        """Apply one bus message that came from `origin` (known from the account, not from the message)."""
        try:
            log, entries, closing = decode(message)
        except ValueError as error:
            return self._refuse(f"{origin}/{service}", (0, 0), f"not a batch: {error}", message)
        if log != f"{origin}/{service}":
            return self._refuse(f"{origin}/{service}", (0, 0), f"names the log {log}", message)
        judgement = self.apply(log, entries, closing)
        if isinstance(judgement, Wrong):
            self._refuse(log, (entries[0].seq, entries[-1].seq), judgement.reason, message)
        return judgement

    def apply(self, log: str, entries: Sequence[Entry], closing: bytes) -> Judgement:
        """Judge and, if it proves itself, apply; rows, bytes and head are committed together."""
        try:
            judgement = self._apply(log, entries, closing)
        except (Unknown, Repeated) as error:
            # Raised inside the transaction, which is rolled back with it: nothing of the batch is applied.
            judgement = Wrong(str(error))
        self._count(type(judgement).__name__.lower(), len(entries))
        return judgement

    def _apply(self, log: str, entries: Sequence[Entry], closing: bytes) -> Judgement:
        with self.engine.begin() as connection:
            old = head(connection, self.name, log)
            judgement = judge(old, entries, closing)
            if isinstance(judgement, Apply):
                events, facts = parse(log, judgement.entries)
                if not move_head(connection, self.name, log, old, judgement.head, stamp(now())):
                    connection.rollback()
                    return Duplicate()
                keep(connection, log, judgement.entries, events, judgement.chains)
                self.fold(connection, log.split("/")[0], facts)
            return judgement

    def verified(self) -> dict[str, Head]:
        """Up to where each log is verified and folded."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(heads).where(heads.c.reader == self.name))
            return {r.log: Head(r.epoch, r.seq, bytes(r.chain)) for r in rows}

    def _refuse(self, log: str, span: tuple[int, int], reason: str, message: bytes) -> Wrong:
        first, last = span
        with self.engine.begin() as connection:
            same = (quarantine.c.reader == self.name, quarantine.c.log == log, quarantine.c.message == message)
            known = connection.execute(select(func.max(quarantine.c.times)).where(*same)).scalar()
            connection.execute(delete(quarantine).where(*same))
            connection.execute(
                insert(quarantine).values(
                    reader=self.name,
                    log=log,
                    first_seq=first,
                    last_seq=last,
                    reason=reason[:300],
                    message=message,
                    times=(known or 0) + 1,
                    received_at=stamp(now()),
                )  # fmt: skip
            )
        self._count("quarantined", 1)
        return Wrong(reason)

    def _count(self, what: str, amount: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + amount


def parse(log: str, entries: Sequence[Entry]) -> tuple[list[tuple[str, str]], list[Fact]]:
    """Read the bodies: ((id, type) each, facts). Raises Unknown for a type or a shape that is not in the contracts."""
    identities, facts = [], []
    for entry in entries:
        try:
            event: dict[str, Any] = orjson.loads(entry.body)
            kind = REGISTRY.get(event["type"])
            if kind is None:
                raise Unknown(f"unknown type {event['type']} at sequence {entry.seq}")
            if event["source"] != "/" + log or event["subject"] != entry.subject:
                raise Unknown(f"source or subject do not fit at sequence {entry.seq}")
            facts.append(kind.from_event(event))
            identities.append((str(event["id"]), str(event["type"])))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
            raise Unknown(f"unreadable fact at sequence {entry.seq}: {str(error)[:120]}") from error
    return identities, facts


def waiting(engine: Engine, reader: str) -> dict[str, int]:
    """Quarantined batches of a reader by log."""
    with reading(engine) as connection:
        rows = connection.execute(
            select(quarantine.c.log, func.count()).where(quarantine.c.reader == reader).group_by(quarantine.c.log)
        )
        return {log: count for log, count in rows}


__all__ = ["Apply", "Duplicate", "Gap", "Reader", "Unknown", "Wrong", "parse", "waiting"]
