"""Applies batches of a log for one reader: verify, keep the bytes, fold, move the head, all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError
from sqlalchemy import Column, Connection, Engine, Integer, LargeBinary, String, Table, delete, func, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from contracts.base import REGISTRY, Fact
from shared.chain import Entry, Head, decode
from shared.clock import stamp
from shared.database import metadata, now, reading, writing
from shared.log import Big, Repeated, chain_at, head, heads, keep, move_head
from shared.replica import Apply, Duplicate, Gap, Judgement, Wrong, judge

Fold = Callable[[Connection, str, Sequence[Fact]], None]
"""What a service does with verified facts of one origin, in order; it gets the connection, the origin's code and the facts."""

COMMIT = 3000
"""Facts after which a commit takes no further message in."""
KEPT = 20
"""Wrong batches of a log that are kept: the first and the last ones. A faulty child must not fill its parent's disk."""

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


UNFIT = (Unknown, Repeated, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, DataError, IntegrityError)
"""What a batch may cause that proves itself and yet cannot be folded; anything else is our own trouble, and it is tried again."""


@dataclass
class Reader:
    """One service's view of the logs it hears. Thread-safe as far as the database is: heads move by compare and set."""

    name: str
    engine: Engine
    fold: Fold
    counts: dict[str, int] = field(default_factory=dict)

    def take(self, origin: str, service: str, message: bytes) -> Judgement:
        """Apply one bus message that came from `origin` (known from the account, not from the message)."""
        return self.take_all(origin, service, [message])[0]

    def take_all(self, origin: str, service: str, messages: Sequence[bytes]) -> list[Judgement]:
        """The same for messages that came together: those that follow one another share a commit."""
        log, found, start = f"{origin}/{service}", [], 0
        while start < len(messages):
            judgements = self._together(log, messages[start:])
            # None were applied: the first one alone says why, and may be refused.
            judgements = judgements or [self._alone(log, messages[start])]
            found += judgements
            start += len(judgements)
        return found

    def _together(self, log: str, messages: Sequence[bytes]) -> list[Judgement]:
        """Apply as many of the first messages as prove themselves, in one transaction; [] where already the first does not."""
        judged: list[tuple[Judgement, int]] = []
        try:
            with writing(self.engine) as connection:
                old = current = head(connection, self.name, log)
                entries: list[Entry] = []
                chains: list[bytes] = []
                for message in messages:
                    named, fresh, closing = decode(message)
                    judgement = self._judge(connection, log, current, fresh, closing) if named == log else Wrong("")
                    if not isinstance(judgement, Apply | Duplicate) or len(entries) >= COMMIT:
                        break
                    judged.append((judgement, len(fresh)))
                    if isinstance(judgement, Apply):
                        entries += judgement.entries
                        chains += judgement.chains
                        current = judgement.head
                if entries and not self._keep(connection, log, (old, current), entries, chains):
                    connection.rollback()
                    return []
        except UNFIT:
            # Raised inside the transaction, which is rolled back with it: nothing is applied.
            return []
        for judgement, count in judged:
            self._count(type(judgement).__name__.lower(), count)
        return [judgement for judgement, _ in judged]

    def _alone(self, log: str, message: bytes) -> Judgement:
        """Judge and apply one message by itself, and keep it aside where it is wrong."""
        try:
            named, entries, closing = decode(message)
        except ValueError as error:
            return self._refuse(log, (0, 0), f"not a batch: {error}", message)
        if named != log:
            return self._refuse(log, (0, 0), f"names the log {named}", message)
        judgement = self.apply(log, entries, closing)
        if isinstance(judgement, Wrong):
            self._refuse(log, (entries[0].seq, entries[-1].seq), judgement.reason, message)
        return judgement

    def apply(self, log: str, entries: Sequence[Entry], closing: bytes) -> Judgement:
        """Judge and, if it proves itself, apply; rows, bytes and head are committed together."""
        try:
            judgement = self._apply(log, entries, closing)
        except IntegrityError:
            # Another reader may have been first with the same facts; then they are known the second time.
            judgement = self._apply_or_refuse(log, entries, closing)
        except UNFIT as error:
            judgement = _unfit(error)
        self._count(type(judgement).__name__.lower(), len(entries))
        return judgement

    def _apply_or_refuse(self, log: str, entries: Sequence[Entry], closing: bytes) -> Judgement:
        try:
            return self._apply(log, entries, closing)
        except UNFIT as error:
            return _unfit(error)

    def _apply(self, log: str, entries: Sequence[Entry], closing: bytes) -> Judgement:
        with writing(self.engine) as connection:
            old = head(connection, self.name, log)
            judgement = self._judge(connection, log, old, entries, closing)
            if isinstance(judgement, Apply):
                span = (old, judgement.head)
                if not self._keep(connection, log, span, judgement.entries, judgement.chains):
                    connection.rollback()
                    judgement = Duplicate()
        return judgement

    def _judge(self, connection: Connection, log: str, known: Head, entries: Sequence[Entry], closing: bytes) -> Judgement:
        """As `judge` does; of what lies behind the head it also asks whether it is the same history, which it has kept."""
        judgement, last = judge(known, entries, closing), entries[-1].seq
        if isinstance(judgement, Duplicate) and last < known.seq and chain_at(connection, log, last) not in (None, closing):
            return Wrong(f"another history at sequence {last}")
        return judgement

    def _keep(
        self, connection: Connection, log: str, span: tuple[Head, Head], entries: Sequence[Entry], chains: Sequence[bytes]
    ) -> bool:
        """Move the head, keep the bytes, fold the facts; False where another copy moved the head meanwhile."""
        events, facts = parse(log, entries)
        if not move_head(connection, self.name, log, *span, stamp(now())):
            return False
        keep(connection, log, entries, events, chains)
        self.fold(connection, log.split("/")[0], facts)
        return True

    def verified(self) -> dict[str, Head]:
        """Up to where each log is verified and folded."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(heads).where(heads.c.reader == self.name))
            return {r.log: Head(r.epoch, r.seq, bytes(r.chain)) for r in rows}

    def _refuse(self, log: str, span: tuple[int, int], reason: str, message: bytes) -> Wrong:
        first, last = span
        # The reason may quote what came, and not every database takes every character.
        reason = "".join(c if c.isprintable() else "?" for c in reason)[:300]
        with writing(self.engine) as connection:
            ours = (quarantine.c.reader == self.name, quarantine.c.log == log)
            again = {"times": quarantine.c.times + 1, "reason": reason, "received_at": stamp(now())}
            same = update(quarantine).where(*ours, quarantine.c.message == message).values(**again)
            if not connection.execute(same).rowcount:
                row = {"reader": self.name, "log": log, "first_seq": first, "last_seq": last, "message": message, "times": 1}
                connection.execute(insert(quarantine).values(**row | {"reason": reason, "received_at": again["received_at"]}))
                ids = list(connection.execute(select(quarantine.c.id).where(*ours).order_by(quarantine.c.id)).scalars())
                connection.execute(delete(quarantine).where(quarantine.c.id.in_(ids[1 : max(1, len(ids) - KEPT + 1)])))
        self._count("quarantined", 1)
        return Wrong(reason)

    def _count(self, what: str, amount: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + amount


def _unfit(error: BaseException) -> Wrong:
    """What to say of a batch that cannot be folded: in our own words, or which error it was."""
    return Wrong(str(error) if isinstance(error, Unknown | Repeated) else f"cannot be folded: {type(error).__name__}")


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
