"""The index behind the full-text search 全文检索: what each case is found by, in blocks, the same on SQLite and PostgreSQL.

Each case has a place in the order of what came last (`seq`) and a line of runs (`terms.line`); what is added to a case gives it a
new line at a new place. Every 2,048 places are a block. Once a block is full its tokens are written, in order, a page of them
with the places they stand at to a row, and never touched again; until then the lines themselves are looked through. Whoever asks
(`search.py`) proves each hit on its line, so that the postings may say too much, as of a place that a case has left, and never
too little.

Only the problem and its place are in it, never anything about who reported.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
)

from services.case.tables import INSTANT, cases, metadata
from services.case.terms import line, tokens
from shared.database import Tx

SEQ = BigInteger().with_variant(Integer, "sqlite")

texts = Table(
    "case_texts",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("case_id", String(40), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    # The part of the body that is not in the case's own row.
    Column("added", Text, nullable=False),
)
"""The line of each case: its number, text, place, codes, and what was added to it."""

fresh = Table("case_texts_fresh", metadata, Column("seq", SEQ, primary_key=True, autoincrement=False))
"""Places whose tokens are not in the postings yet. Not simply the newest: a transaction may commit after a later one."""

postings = Table(
    "case_postings",
    metadata,
    Column("block", Integer, primary_key=True, autoincrement=False),
    # Bytes, because a database's own idea of how texts are sorted would break the ranges.
    Column("first", LargeBinary, primary_key=True),
    Column("tokens", LargeBinary, nullable=False),
    Column("ends", LargeBinary, nullable=False),
    Column("docs", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""A page of a block's tokens from `first` on, each between line feeds; where the places of each end; the places of all."""

blocks = Table(
    "case_blocks",
    metadata,
    Column("block", Integer, primary_key=True, autoincrement=False),
    Column("first_at", INSTANT, nullable=False),
    Column("last_at", INSTANT, nullable=False),
)
"""Between which instants the cases of a block were reported, so that a question for some days skips all other blocks."""

SHIFT = 11
BLOCK = 1 << SHIFT
PAGE, LF = 900, b"\n"
"""Bytes of a row of the postings: SQLite keeps rows of this size four to a page, and larger ones in chains of pages."""
LARGEST = 20_000
"""Characters of a line; what is added to a case beyond is not searched."""
CATEGORY, DIVISION = "\x01c", "\x01d"
"""Begin the tokens by which a filter for these is answered from the postings."""

_ADD = {
    "sqlite": "INSERT INTO case_texts (case_id, body, added) VALUES (?, ?, ?)",
    "postgresql": "WITH t AS (INSERT INTO case_texts (case_id, body, added) VALUES (%s, %s, %s) RETURNING seq) "
    "INSERT INTO case_texts_fresh SELECT seq FROM t",
}
"""By hand, because the library's preparation of a statement costs more than running it."""
_POST = {
    "sqlite": "INSERT INTO case_postings (block, first, tokens, ends, docs) VALUES (?, ?, ?, ?, ?)",
    "postgresql": "INSERT INTO case_postings (block, first, tokens, ends, docs) "
    "SELECT %s, unnest(%s::bytea[]), unnest(%s::bytea[]), unnest(%s::bytea[]), unnest(%s::bytea[])",
}
_KNOWN = select(texts.c.seq, texts.c.added).where(texts.c.case_id == bindparam("case"))
_LEAVE = [delete(table).where(table.c.seq == bindparam("place")) for table in (texts, fresh)]
_LINES = (
    select(texts.c.seq, texts.c.body, cases.c.category, cases.c.division, cases.c.reported_at)
    .select_from(texts.join(cases, cases.c.id == texts.c.case_id))
    .where(texts.c.seq.between(bindparam("low"), bindparam("high")))
    .order_by(texts.c.seq)
)


def index(tx: Tx, row: Mapping[str, Any]) -> None:
    """Make a new case findable, in the transaction that registers it."""
    _place(tx.connection, row["id"], _line(row), "")


def add(tx: Tx, row: Mapping[str, Any], *pieces: str | None) -> None:
    """Make a case findable as it is now, and by what was added to it as well; it moves to the newest place."""
    known = tx.execute(_KNOWN, {"case": row["id"]}).first()
    added = (known.added if known else "") + line(*pieces)[1:]
    if known:
        for statement in _LEAVE:
            tx.execute(statement, {"place": known.seq})
    _place(tx.connection, row["id"], _line(row), added)


def _place(connection: Connection, case_id: str, own: str, added: str) -> None:
    done = connection.exec_driver_sql(_ADD[connection.dialect.name], (case_id, (own + added)[:LARGEST], added[:LARGEST]))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO case_texts_fresh (seq) VALUES (?)", (done.lastrowid,))


def _line(row: Mapping[str, Any]) -> str:
    return line(row["number"], row["text"], row["place"], row["category"], row["part"])


@dataclass(frozen=True)
class Sheaf:
    """Everything that is to be written of one block."""

    block: int
    places: list[int]
    pages: list[tuple[bytes, bytes, bytes, bytes]]
    first_at: str
    last_at: str


def full(connection: Connection) -> list[int]:
    """Blocks that are full and have places that the postings do not know."""
    newest = connection.execute(select(func.max(texts.c.seq))).scalar() or 0
    unknown = connection.execute(select(fresh.c.seq).where(fresh.c.seq < newest >> SHIFT << SHIFT)).scalars()
    return sorted({seq >> SHIFT for seq in unknown})


def gather(connection: Connection, block: int) -> Sheaf:
    """Cut the lines of a full block. It takes a tenth of a second, so it is done without holding up whoever writes."""
    span = {"low": block << SHIFT, "high": (block + 1 << SHIFT) - 1}
    rows = connection.execute(_LINES, span).mappings().all()
    standing: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        place = row["seq"] % BLOCK
        for token in tokens(row["body"]):
            standing[token].append(place)
        standing[CATEGORY + row["category"]].append(place)
        standing[DIVISION + row["division"]].append(place)
    times = [row["reported_at"] for row in rows]
    places = _unknown(connection, block)
    return Sheaf(block, places, list(_pages(standing)), min(times, default=""), max(times, default=""))


def _unknown(connection: Connection, block: int) -> list[int]:
    within = fresh.c.seq.between(block << SHIFT, (block + 1 << SHIFT) - 1)
    return list(connection.execute(select(fresh.c.seq).where(within)).scalars())


def put(connection: Connection, sheaf: Sheaf) -> None:
    """Write a block. What committed too late for its block, which is written once, moves to the newest place instead."""
    if connection.execute(select(blocks.c.block).where(blocks.c.block == sheaf.block)).first() is not None:
        # Asked anew: another copy of the service may have written the same block a moment ago.
        for place in _unknown(connection, sheaf.block):
            _move(connection, place)
        return
    if sheaf.pages and connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_POST["sqlite"], [(sheaf.block, *page) for page in sheaf.pages])
    elif sheaf.pages:
        connection.exec_driver_sql(_POST["postgresql"], (sheaf.block, *map(list, zip(*sheaf.pages, strict=True))))
    row = {"block": sheaf.block, "first_at": sheaf.first_at, "last_at": sheaf.last_at}
    connection.execute(insert(blocks), row)
    connection.execute(delete(fresh).where(fresh.c.seq.in_(sheaf.places)))


def _move(connection: Connection, place: int) -> None:
    row = connection.execute(select(texts).where(texts.c.seq == place)).first()
    for statement in _LEAVE:
        connection.execute(statement, {"place": place})
    if row is not None:
        own = row.body.removesuffix(row.added) if row.added else row.body
        _place(connection, row.case_id, own, row.added)


def seal(connection: Connection) -> None:
    """Write every block that is full."""
    for block in full(connection):
        put(connection, gather(connection, block))


def _pages(standing: Mapping[str, Sequence[int]]) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """(first, tokens, ends, docs) of rows that fit a database's page several times."""
    names: list[bytes] = []
    docs, size, ends = bytearray(), 0, array("H")
    for name in sorted(standing):
        token, more = name.encode(), encoded(standing[name])
        if names and size + len(token) + len(more) > PAGE:
            yield names[0], LF + LF.join(names) + LF, ends.tobytes(), bytes(docs)
            names, docs, size, ends = [], bytearray(), 0, array("H")
        names.append(token)
        docs += more
        ends.append(len(docs))
        size += len(token) + len(more) + 3
    if names:
        yield names[0], LF + LF.join(names) + LF, ends.tobytes(), bytes(docs)


def unpacked(
    tokens: bytes, ends: bytes, docs: bytes, begin: bytes = b"", end: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """The tokens of a page from `begin` to before `end`, each with its places as they are stored."""
    names, cuts = bytes(tokens)[1:-1].split(LF), memoryview(ends).cast("H")
    for at in range(bisect_left(names, begin), len(names) if end is None else bisect_left(names, end)):
        yield names[at], docs[cuts[at - 1] if at else 0 : cuts[at]]


_BITS = [1 << place for place in range(BLOCK)]


def encoded(standing: Sequence[int]) -> bytes:
    """The places of one token in a block: two bytes for each, or where that is shorter one bit for every place of the block."""
    if len(standing) * 2 < BLOCK // 8:
        return array("H", standing).tobytes()
    return sum(map(_BITS.__getitem__, standing)).to_bytes(BLOCK // 8, "little")


def decoded(docs: bytes) -> int:
    """The places as the bits of a number."""
    if len(docs) == BLOCK // 8:
        return int.from_bytes(docs, "little")
    return sum(map(_BITS.__getitem__, memoryview(docs).cast("H")))


def places(mask: int) -> Iterator[int]:
    """The bits of a mask, the highest first."""
    while mask:
        place = mask.bit_length() - 1
        mask ^= 1 << place
        yield place


def adopt(connection: Connection) -> int:
    """Index every case that is not indexed yet, in the order of their ids; answers how many there were.

    For cases from before there was an index, and for those that were written past it in bulk. Nobody else writes meanwhile.
    """
    last, count = "", 0
    missing = ~exists().where(texts.c.case_id == cases.c.id)
    wanted = [cases.c[name] for name in ("id", "number", "text", "place", "category", "part")]
    while True:
        newest = connection.execute(select(func.max(texts.c.seq))).scalar() or 0
        query = select(*wanted).where(cases.c.id > last, missing).order_by(cases.c.id).limit(BLOCK)
        found = [dict(row) for row in connection.execute(query).mappings()]
        if not found:
            seal(connection)
            return count
        connection.execute(insert(texts), [{"case_id": r["id"], "body": _line(r)[:LARGEST], "added": ""} for r in found])
        given = connection.execute(select(texts.c.seq).where(texts.c.seq > newest)).scalars().all()
        top = max(given) >> SHIFT
        for block in sorted({seq >> SHIFT for seq in given} - {top}):
            put(connection, gather(connection, block))
        connection.execute(insert(fresh), [{"seq": seq} for seq in given if seq >> SHIFT == top])
        last, count = found[-1]["id"], count + len(found)
