"""A service's append-only log of facts, which is also its outbox: recorded in the row's transaction, sealed after the commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    func,
    insert,
    select,
    update,
)

from contracts.base import Fact
from shared.chain import EMPTY, Entry, Head, link
from shared.database import Tx, bulk, metadata, reading, writing

Big = BigInteger().with_variant(Integer, "sqlite")

entries = Table(
    "log_entries",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("log", String(40), nullable=False),
    Column("fact_id", String(40), nullable=False, unique=True),
    Column("subject", String(80), nullable=False),
    Column("type", String(80), nullable=False),
    Column("body", LargeBinary, nullable=False),
    # The following stay empty until the sealer has been here.
    Column("epoch", Integer),
    Column("seq", Big),
    Column("version", Integer),
    Column("chain", LargeBinary),
    Index("log_entries_position", "log", "seq", unique=True),
    Index("log_entries_subject", "log", "subject", "version"),
)
"""Own facts and replicas of others': `log` is `<node>/<service>`."""

heads = Table(
    "log_heads",
    metadata,
    Column("reader", String(40), primary_key=True),
    Column("log", String(40), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("seq", Big, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("heard_at", String(40)),
)
"""How far each reader knows a log; reader `sealer` is the log's own head, reader `publisher` what the broker confirmed."""

SEALER, PUBLISHER = "sealer", "publisher"

SIZE = 512 * 1024
"""Bytes of facts in one batch: half of what a broker takes in one message, whatever facts will hold one day."""

_INSERT = insert(entries)
_PLACES = select(entries.c.fact_id, entries.c.log, entries.c.seq).where(
    entries.c.fact_id.in_(bindparam("ids", expanding=True))
)
_SEAL = (
    update(entries)
    .where(entries.c.id == bindparam("row"))
    .values(epoch=bindparam("e"), seq=bindparam("s"), version=bindparam("v"), chain=bindparam("c"))
)


def later(tx: Tx, fact: Fact) -> None:
    """Keep `fact` for the end of the transaction. It gets its sequence only after the commit, since commits may overtake."""
    fact_id = tx.new_id()
    tx.pending.append(
        {
            "log": f"{tx.node}/{fact.stated_by}", "fact_id": fact_id, "subject": fact.subject, "type": fact.type,
            "body": fact.body(fact_id, tx.node),
        }
    )  # fmt: skip


def write(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add facts that were kept for later to the own log, in this order."""
    if rows:
        bulk(connection, _INSERT, rows)


def record(tx: Tx, fact: Fact) -> None:
    """Add one fact to the own log at once."""
    later(tx, fact)
    write(tx.connection, [tx.pending.pop()])


def head(connection: Connection, reader: str, log: str) -> Head:
    row = connection.execute(
        select(heads.c.epoch, heads.c.seq, heads.c.chain).where(heads.c.reader == reader, heads.c.log == log)
    ).first()
    return Head(row.epoch, row.seq, bytes(row.chain)) if row else EMPTY


def chain_at(connection: Connection, log: str, seq: int) -> bytes | None:
    """The chain after entry `seq` of a log, None where the entry is not kept here."""
    found = connection.execute(select(entries.c.chain).where(entries.c.log == log, entries.c.seq == seq)).scalar()
    return bytes(found) if found is not None else None


def move_head(connection: Connection, reader: str, log: str, old: Head, new: Head, heard_at: str | None = None) -> bool:
    """Compare and set: False when another process moved the head since `old` was read; then nothing may be committed."""
    values = {"epoch": new.epoch, "seq": new.seq, "chain": new.chain, "heard_at": heard_at}
    if old == EMPTY and head(connection, reader, log) == EMPTY:
        connection.execute(insert(heads).values(reader=reader, log=log, **values))
        return True
    where = (heads.c.reader == reader, heads.c.log == log, heads.c.seq == old.seq)
    return connection.execute(update(heads).where(*where).values(**values)).rowcount == 1


def seal(engine: Engine, log: str, limit: int = 500) -> int:
    """Give unsealed facts of `log` their place, in order of writing; returns how many. One sealer a log (compare and set)."""
    with writing(engine) as connection:
        # The head before the rows: whoever seals between the two has moved it, and then nothing of this is committed. The
        # other way round, rows that were sealed meanwhile would get a second place.
        old = head(connection, SEALER, log)
        rows = connection.execute(
            select(entries.c.id, entries.c.subject, entries.c.body)
            .where(entries.c.log == log, entries.c.seq.is_(None))
            .order_by(entries.c.id)
            .limit(limit)
        ).all()
        if not rows:
            return 0
        versions = _versions(connection, log, {r.subject for r in rows})
        chain, seq, updates = old.chain, old.seq, []
        epoch = max(old.epoch, 1)
        for row in rows:
            seq += 1
            versions[row.subject] = versions.get(row.subject, 0) + 1
            entry = Entry(epoch, seq, versions[row.subject], row.subject, bytes(row.body))
            chain = link(chain, entry)
            updates.append({"row": row.id, "e": epoch, "s": seq, "v": entry.version, "c": chain})
        if not move_head(connection, SEALER, log, old, Head(epoch, seq, chain)):
            connection.rollback()
            return 0
        bulk(connection, _SEAL, updates)
        return len(rows)


def _versions(connection: Connection, log: str, subjects: set[str]) -> dict[str, int]:
    rows = connection.execute(
        select(entries.c.subject, func.max(entries.c.version))
        .where(entries.c.log == log, entries.c.subject.in_(subjects))
        .group_by(entries.c.subject)
    )
    return {subject: version or 0 for subject, version in rows}


def read_range(engine: Engine, log: str, first: int, limit: int = 500, size: int = SIZE) -> tuple[list[Entry], bytes]:
    """Sealed entries of `log` from sequence `first` on and the chain after the last of them; ([], b"") where there is none.

    At most `limit` entries and, beside the first, at most `size` bytes of bodies.
    """
    with reading(engine) as connection:
        rows = connection.execute(
            select(entries.c.epoch, entries.c.seq, entries.c.version, entries.c.subject, entries.c.body, entries.c.chain)
            .where(entries.c.log == log, entries.c.seq >= first)
            .order_by(entries.c.seq)
            .limit(limit)
        ).all()
    found: list[Entry] = []
    for row in rows:
        size -= len(row.body)
        if size < 0 and found:
            break
        found.append(Entry(row.epoch, row.seq, row.version, row.subject, bytes(row.body)))
    return found, bytes(rows[len(found) - 1].chain) if found else b""


class Repeated(Exception):
    """A fact's id was used before, in another log."""


def keep(
    connection: Connection, log: str, fresh: Sequence[Entry], facts: Sequence[tuple[str, str]], chains: Sequence[bytes]
) -> None:
    """Store verified entries of another log as they came; `facts` are their (id, type), `chains` the value after each.

    What another reader of this node stored already is left alone. Raises Repeated for an id that stands elsewhere.
    """
    rows = [
        {"log": log, "fact_id": fact_id, "type": kind, "chain": chain, **entry._asdict()}
        for entry, (fact_id, kind), chain in zip(fresh, facts, chains, strict=True)
    ]
    known = set()
    places = {row["fact_id"]: row["seq"] for row in rows}
    if len(places) < len(rows):
        raise Repeated("one fact stands in the batch twice")
    for start in range(0, len(rows), 500):
        ids = [r["fact_id"] for r in rows[start : start + 500]]
        for row in connection.execute(_PLACES, {"ids": ids}):
            if row.log != log or row.seq != places[row.fact_id]:
                raise Repeated(f"the fact {row.fact_id} stands at {row.seq} of {row.log} already")
            known.add(row.fact_id)
    rows = [r for r in rows if r["fact_id"] not in known]
    if rows:
        bulk(connection, _INSERT, rows)
