"""The index behind the full-text search 全文检索: what each case is found by, in blocks, the same on SQLite and PostgreSQL.

Each case has a place in the order of their coming (`seq`) and a line of runs (`terms.line`). Every 2,048 places are a block. When
one is full its tokens are written at once, in order, a page of them with the places they stand at to a row; until then, and
whenever a place came late, the lines themselves are looked through. Whoever asks (`search.py`) proves each hit on its line, so
that the postings may say too much and never too little: nothing is ever taken out of them.

Only the problem and its place are in it, never anything about who reported.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    update,
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
    "sqlite": "INSERT INTO case_texts (case_id, body) VALUES (?, ?)",
    "postgresql": "WITH t AS (INSERT INTO case_texts (case_id, body) VALUES (%s, %s) RETURNING seq) "
    "INSERT INTO case_texts_fresh SELECT seq FROM t RETURNING seq",
}
"""By hand, because the library's preparation of a statement costs more than running it."""
_POST = {
    "sqlite": "INSERT INTO case_postings (block, first, tokens, ends, docs) VALUES (?, ?, ?, ?, ?)",
    "postgresql": "INSERT INTO case_postings (block, first, tokens, ends, docs) "
    "SELECT %s, unnest(%s::bytea[]), unnest(%s::bytea[]), unnest(%s::bytea[]), unnest(%s::bytea[])",
}
_LINE = select(texts.c.seq, texts.c.body).where(texts.c.case_id == bindparam("case"))
_AT = (postings.c.block == bindparam("of"), postings.c.first == bindparam("from"))
_FIRSTS = select(postings.c.first).where(postings.c.block == bindparam("of")).order_by(postings.c.first)
_PAGE, _DROP = select(postings).where(*_AT), delete(postings).where(*_AT)
_SET_LINE = update(texts).where(texts.c.seq == bindparam("place"))
_FRESH = (
    select(texts.c.seq, texts.c.body, cases.c.category, cases.c.division, cases.c.reported_at)
    .select_from(fresh.join(texts, texts.c.seq == fresh.c.seq).join(cases, cases.c.id == texts.c.case_id))
    .order_by(texts.c.seq)
)


def index(tx: Tx, row: Mapping[str, Any]) -> None:
    """Make a new case findable, in the transaction that registers it."""
    connection = tx.connection
    done = connection.exec_driver_sql(_ADD[connection.dialect.name], (row["id"], _line(row)))
    if connection.dialect.name == "sqlite":
        seq = done.lastrowid
        connection.exec_driver_sql("INSERT INTO case_texts_fresh (seq) VALUES (?)", (seq,))
    else:
        seq = done.scalar_one()
    if seq % BLOCK == BLOCK - 1:
        seal(connection)


def add(tx: Tx, row: Mapping[str, Any], *pieces: str | None) -> None:
    """Make a case findable by what was added to it, too, and by its category, part and place as they are now."""
    found = tx.execute(_LINE, {"case": row["id"]}).first()
    if found is None:
        index(tx, row)
        found = tx.execute(_LINE, {"case": row["id"]}).one()
    more = line(row["category"], row["part"], *pieces)
    tx.execute(_SET_LINE, {"place": found.seq, "body": (found.body + more[1:])[:LARGEST]})
    if tx.execute(select(fresh.c.seq).where(fresh.c.seq == found.seq)).first() is None:
        block, place = divmod(found.seq, BLOCK)
        _post(tx.connection, block, {t: [place] for t in (*tokens(more), *_fields(row))}, merge=True)


def _fields(row: Mapping[str, Any]) -> tuple[str, str]:
    return CATEGORY + row["category"], DIVISION + row["division"]


def seal(connection: Connection) -> None:
    """Write the tokens of all fresh places into the postings."""
    found = [dict(row) for row in connection.execute(_FRESH).mappings()]
    _write(connection, found)
    for start in range(0, len(found), BLOCK):
        done = [row["seq"] for row in found[start : start + BLOCK]]
        connection.execute(delete(fresh).where(fresh.c.seq.in_(done)))


def _write(connection: Connection, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write the tokens of these lines into their blocks."""
    by_block: dict[int, list[Mapping[str, Any]]] = {}
    for each in lines:
        by_block.setdefault(each["seq"] >> SHIFT, []).append(each)
    known = {r.block: r for r in connection.execute(select(blocks).where(blocks.c.block.in_(list(by_block))))}
    for block, rows in by_block.items():
        standing: defaultdict[str, list[int]] = defaultdict(list)
        for row in rows:
            place = row["seq"] % BLOCK
            for token in (*tokens(row["body"]), *_fields(row)):
                standing[token].append(place)
        there = known.get(block)
        _post(connection, block, standing, merge=there is not None)
        times = [r["reported_at"] for r in rows] + ([there.first_at, there.last_at] if there else [])
        connection.execute(delete(blocks).where(blocks.c.block == block))
        connection.execute(insert(blocks), {"block": block, "first_at": min(times), "last_at": max(times)})


def _post(connection: Connection, block: int, standing: Mapping[str, Sequence[int]], *, merge: bool) -> None:
    """Write at which places of one block tokens stand; with `merge` beside those that stand there already."""
    found = {token.encode(): standing[token] for token in sorted(standing)}
    pages = [page for some in (_merged(connection, block, found) if merge else [found]) for page in _pages(some)]
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_POST["sqlite"], [(block, *page) for page in pages])
    else:
        connection.exec_driver_sql(_POST["postgresql"], (block, *map(list, zip(*pages, strict=True))))


def _merged(connection: Connection, block: int, found: Mapping[bytes, Sequence[int]]) -> list[dict[bytes, Sequence[int]]]:
    """Take out the pages on which these tokens belong; answers for each what is to stand in its place.

    Each by itself: a page that held tokens of two others would hide those that stand between them.
    """
    firsts = list(connection.execute(_FIRSTS, {"of": block}).scalars())
    by_page: defaultdict[bytes, dict[bytes, set[int]]] = defaultdict(dict)
    for token, standing in found.items():
        by_page[firsts[max(0, bisect_right(firsts, token) - 1)]][token] = set(standing)
    for first, together in by_page.items():
        page = connection.execute(_PAGE, {"of": block, "from": first}).one()
        for token, docs in unpacked(page.tokens, page.ends, page.docs):
            together.setdefault(token, set()).update(places(decoded(docs)))
        connection.execute(_DROP, {"of": block, "from": first})
    return [{token: sorted(together[token]) for token in sorted(together)} for together in by_page.values()]


def _pages(found: Mapping[bytes, Sequence[int]]) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """(first, tokens, ends, docs) of rows that fit a database's page several times."""
    names: list[bytes] = []
    docs, size, ends = bytearray(), 0, array("H")
    for token, standing in found.items():
        more = encoded(standing)
        if names and size + len(token) + len(more) > PAGE:
            yield names[0], LF + LF.join(names) + LF, ends.tobytes(), bytes(docs)
            names, docs, size, ends = [], bytearray(), 0, array("H")
        names.append(token)
        docs += more
        ends.append(len(docs))
        size += len(token) + len(more) + 3
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
    wanted = [cases.c[name] for name in ("id", "number", "text", "place", "category", "part", "division", "reported_at")]
    while True:
        before = connection.execute(select(func.max(texts.c.seq))).scalar() or 0
        # As many as fill the block, so that each is written once.
        query = select(*wanted).where(cases.c.id > last, missing).order_by(cases.c.id).limit(BLOCK - (before + 1) % BLOCK)
        found = {row["id"]: dict(row) for row in connection.execute(query).mappings()}
        if not found:
            return count
        connection.execute(insert(texts), [{"case_id": row["id"], "body": _line(row)} for row in found.values()])
        lines = connection.execute(select(texts).where(texts.c.seq > before)).mappings()
        _write(connection, [found[row["case_id"]] | dict(row) for row in lines])
        last, count = max(found), count + len(found)


def _line(row: Mapping[str, Any]) -> str:
    return line(row["number"], row["text"], row["place"], row["category"], row["part"])[:LARGEST]
