"""Checks a node's logs by their own bytes: every chain recomputed from the first fact, every head held against it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, select

from shared.chain import GENESIS, Entry, link
from shared.database import reading
from shared.log import SEALER, entries, heads

CHUNK = 2000


@dataclass(frozen=True)
class Checked:
    """What was found of one log: how many facts prove themselves, the chain after them, and the first thing that is wrong."""

    log: str
    facts: int
    chain: bytes
    fault: str = ""


def verify(engine: Engine) -> list[Checked]:
    """Check every log that the database holds or has a head of. Reads one snapshot; writes nothing."""
    with reading(engine) as connection:
        sealed = select(entries.c.log).where(entries.c.seq.is_not(None))
        logs = connection.execute(sealed.union(select(heads.c.log))).scalars()
        return [_check(connection, log) for log in sorted(logs)]


def _check(connection: Connection, log: str) -> Checked:
    chain, seq, epoch, last = GENESIS, 0, 0, None
    columns = (entries.c.epoch, entries.c.seq, entries.c.version, entries.c.subject, entries.c.body, entries.c.chain)
    while last is None or last:
        rows = connection.execute(
            select(*columns).where(entries.c.log == log, entries.c.seq > seq).order_by(entries.c.seq).limit(CHUNK)
        ).all()
        for row in rows:
            entry = Entry(row.epoch, row.seq, row.version, row.subject, bytes(row.body))
            if entry.seq != seq + 1:
                return Checked(log, seq, chain, f"the facts from {seq + 1} to {entry.seq - 1} are missing")
            following = _following(chain, entry)
            if row.chain is None or following != bytes(row.chain):
                return Checked(log, seq, chain, f"the fact {entry.seq} about {entry.subject} is not the one that was sealed")
            if entry.epoch < epoch:
                return Checked(log, seq, chain, f"the epoch runs backwards at {entry.seq}")
            chain, seq, epoch = following, entry.seq, entry.epoch
        last = len(rows)
    return Checked(log, seq, chain, _heads(connection, log, seq))


def _following(chain: bytes, entry: Entry) -> bytes:
    """The chain value after `entry`; none for numbers that no sealer can have given."""
    try:
        return link(chain, entry)
    except struct.error:
        return b""


def _heads(connection: Connection, log: str, seq: int) -> str:
    """A head must point at a fact that is there and carry its epoch and chain; the log's own sealer must stand at its end."""
    for head in connection.execute(select(heads).where(heads.c.log == log).order_by(heads.c.reader)):
        kept = connection.execute(
            select(entries.c.epoch, entries.c.chain).where(entries.c.log == log, entries.c.seq == head.seq)
        ).first()
        if head.seq > seq:
            return f"the facts from {seq + 1} to {head.seq} are missing, up to which {head.reader} knew the log"
        if kept is None or (kept.epoch, bytes(kept.chain)) != (head.epoch, bytes(head.chain)):
            return f"the head of {head.reader} at {head.seq} does not fit the facts"
        if head.reader == SEALER and head.seq != seq:
            return f"sealed up to {head.seq}, but facts are there up to {seq}"
    doubled = select(func.count()).select_from(
        select(entries.c.subject).where(entries.c.log == log).group_by(entries.c.subject, entries.c.version)
        .having(func.count() > 1, entries.c.version.is_not(None)).subquery()
    )  # fmt: skip
    return "a version of one subject is there twice" if connection.execute(doubled).scalar_one() else ""
