"""The audit log 审计日志: who did what to which thing and why, only ever added to, each entry chained to the one before it.

An entry is written inside the transaction of what it tells about, so that neither is ever there without the other. Its place and
its chain value are given at the write, on the condition that the entry before it is the last one at that moment: a rollback, a
savepoint or another process at work makes that condition fail, and then the last entry is looked up anew. So the chain has no gap
and no fork without any lock of its own. Triggers refuse to change or delete an entry; to get around them breaks the chain. Actors
are tokens' subjects and keys of staff and platforms; reporters are not named, and `detail` holds codes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import BigInteger, Column, Connection, Engine, Index, Integer, LargeBinary, String, Table, Text, select

from shared.clock import stamp
from shared.database import Tx, metadata, reading
from shared.errors import Busy

entries = Table(
    "audit_entries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(120), nullable=False),
    Column("roles", String(200), nullable=False),
    Column("action", String(40), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("reason", String(500)),
    Column("outcome", String(16), nullable=False),
    # JSON as it was written, because the chain is over these bytes.
    Column("detail", Text),
    Column("chain", LargeBinary, nullable=False),
    Index("audit_entries_subject", "subject"),
    Index("audit_entries_actor", "actor"),
    Index("audit_entries_at", "at"),
)
"""`id` counts from 1 without gaps; `kind` and `subject` say what was acted on, such as `case` and its id."""

SAID = ("at", "actor", "roles", "action", "kind", "subject", "reason", "outcome", "detail")
"""The columns under the chain, in this order, beside the id."""
GENESIS = bytes(32)
CHUNK = 2000


class Head(NamedTuple):
    """How many entries there are, and the chain value of the last."""

    size: int
    chain: bytes

    @classmethod
    def parse(cls, written: str) -> Head:
        """From what `str` gives. Raises ValueError."""
        size, _, chain = written.strip().partition(":")
        if not size.isdecimal() or len(chain) != 2 * len(GENESIS):
            raise ValueError("a head is written as SIZE:CHAIN, with 64 hexadecimal digits")
        return cls(int(size), bytes.fromhex(chain))

    def __str__(self) -> str:
        return f"{self.size}:{self.chain.hex()}"


EMPTY = Head(0, GENESIS)
_LAST: WeakKeyDictionary[Engine, Head] = WeakKeyDictionary()
"""The last entry as far as this process knows; only a guess, which each insertion proves."""


def _insertion(mark: str) -> str:
    columns = ("id", *SAID, "chain")
    last = f"({mark} = 0 OR (SELECT chain FROM audit_entries WHERE id = {mark}) = {mark})"
    free = f"NOT EXISTS (SELECT 1 FROM audit_entries WHERE id = {mark})"
    values = ", ".join([mark] * len(columns))
    return f"INSERT INTO audit_entries ({', '.join(columns)}) SELECT {values} WHERE {last} AND {free} ON CONFLICT (id) DO NOTHING"


_INSERT = {"sqlite": _insertion("?"), "postgresql": _insertion("%s")}
"""By hand and not by the library, whose preparation costs more than the insertion, and this runs with every change of state."""


def note(
    tx: Tx, actor: str, roles: Iterable[str], action: str, kind: str, subject: str, *,
    reason: str | None = None, detail: Mapping[str, Any] | None = None, outcome: str = "done",
) -> int:  # fmt: skip
    """Add an entry to the audit log inside `tx`; answers its id.

    `actor` is who is known by a credential; `detail` holds codes and counts, never what a person wrote. Raises Busy where other
    processes without end write in between.
    """
    said = (
        stamp(tx.now()), actor, " ".join(sorted(roles)), action, kind, subject, reason, outcome,
        orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode() if detail else None,
    )  # fmt: skip
    engine, insert = tx.connection.engine, _INSERT[tx.connection.dialect.name]
    last = _LAST.get(engine) or head(tx.connection)
    for _ in range(100):
        chain = link(last.chain, last.size + 1, said)
        row = (last.size + 1, *said, chain, last.size, last.size, last.chain, last.size + 1)
        if tx.connection.exec_driver_sql(insert, row).rowcount == 1:
            _LAST[engine] = Head(last.size + 1, chain)
            return last.size + 1
        last = head(tx.connection)
    raise Busy("the audit log is written by others all the time")


def link(previous: bytes, place: int, said: Iterable[str | None]) -> bytes:
    """The chain value of the entry at `place`, whose columns are `said`, after an entry with the chain value `previous`."""
    parts = [b"\x02", previous, struct.pack(">Q", place)]
    for text in said:
        # Each with its length in front, so that nothing can move from one column into the next; none is not the same as empty.
        raw = b"" if text is None else text.encode()
        parts += (struct.pack(">i", -1 if text is None else len(raw)), raw)
    return hashlib.sha256(b"".join(parts)).digest()


def head(connection: Connection) -> Head:
    """The last entry."""
    row = connection.execute(select(entries.c.id, entries.c.chain).order_by(entries.c.id.desc()).limit(1)).first()
    return Head(row.id, bytes(row.chain)) if row else EMPTY


class Sought(NamedTuple):
    """Which entries to read: exact values, instants as they are stored, and only those before the id `before`."""

    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    subject: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None
    limit: int = 100


def page(connection: Connection, sought: Sought) -> list[dict[str, Any]]:
    """Entries, the newest first."""
    query = select(entries).order_by(entries.c.id.desc()).limit(sought.limit)
    for name in ("actor", "action", "kind", "subject"):
        if (value := getattr(sought, name)) is not None:
            query = query.where(entries.c[name] == value)
    if sought.since is not None:
        query = query.where(entries.c.at >= sought.since)
    if sought.until is not None:
        query = query.where(entries.c.at < sought.until)
    if sought.before is not None:
        query = query.where(entries.c.id < sought.before)
    return [_shown(dict(row)) for row in connection.execute(query).mappings()]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    detail = orjson.loads(row["detail"]) if row["detail"] else {}
    return row | {"roles": row["roles"].split(), "detail": detail, "chain": bytes(row["chain"]).hex()}


@dataclass(frozen=True)
class Checked:
    """What was found: the last entry that proves itself, and the first thing that is wrong after it."""

    head: Head
    fault: str = ""


def verify(engine: Engine, seen: Head = EMPTY) -> Checked:
    """Recompute the chain from the first entry on one snapshot; `seen` is a head that was known before and must still be there.

    An altered, missing, added or swapped entry is found by itself; entries cut off at the end are found by `seen`.
    """
    last, kept = EMPTY, seen.size == 0
    with reading(engine) as connection:
        while rows := connection.execute(
            select(entries).where(entries.c.id > last.size).order_by(entries.c.id).limit(CHUNK)
        ).mappings().all():  # fmt: skip
            for row in rows:
                if row["id"] != last.size + 1:
                    return Checked(last, f"the entries from {last.size + 1} to {row['id'] - 1} are missing")
                chain = link(last.chain, row["id"], (row[name] for name in SAID))
                if chain != bytes(row["chain"]):
                    return Checked(last, f"the entry {row['id']} is not the one that was written there")
                last = Head(row["id"], chain)
                if last.size == seen.size and not (kept := last.chain == seen.chain):
                    return Checked(last, f"the log up to {last.size} is not the one that was seen before: it was written anew")
        # What stands before the first place is no entry either, and would never be read above.
        if connection.execute(select(entries.c.id).where(entries.c.id < 1).limit(1)).first():
            return Checked(last, "an entry stands before the first one")
    return Checked(last, "" if kept else f"the entries from {last.size + 1} to {seen.size} are missing, which were seen before")


def seen(path: Path) -> Head:
    """The head that was written down last, nothing where none was. Raises ValueError."""
    return Head.parse(path.read_text()) if path.exists() else EMPTY


def write_down(engine: Engine, path: Path) -> None:
    """Write the head into a file beside the database, so that entries cannot be cut off its end by whoever has only that.

    A head that the log does not lead up to any more is left as it is: somebody has to look.
    """
    before = seen(path)
    with reading(engine) as connection:
        now = head(connection)
        there = connection.execute(select(entries.c.chain).where(entries.c.id == before.size)).scalar()
    if now.size > before.size and (before == EMPTY or (there is not None and bytes(there) == before.chain)):
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(f"{now}\n")
        fresh.replace(path)
