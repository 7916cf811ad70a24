"""Full-text search 全文检索 over what was reported and where, newest first, in bounded work a page.

A question walks the blocks of the index (`postings.py`) from the newest to the oldest, cuts the places of its tokens, and proves
what is left on the lines themselves. Where the work for one page is used up the page is shorter, and its cursor tells where to go
on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ARRAY, BigInteger, Connection, String, bindparam, func, literal_column, or_, select, text

from services.case.postings import BLOCK, CATEGORY, DIVISION, SHIFT, blocks, decoded, fresh, places, texts, unpacked
from services.case.tables import cases
from services.case.terms import LAST, Term, terms

CANDIDATES, WALKED = 1500, 2048
"""The most lines that are looked at, and blocks that are walked, for one page."""
FEW = 256
"""With so few candidates left in a stretch of blocks it is cheaper to look at their lines than at more postings."""
MOST_TOKENS = 6
"""Further tokens would cost more than the lines that they rule out."""
NARROW, WIDEST = 4, 128
"""Blocks that are walked at once: few at first, since most questions are answered by the newest."""

Where = Callable[[Any], list[Any]]
Masks = dict[int, int]
"""Places by block."""

_PAGES = text(
    "WITH RECURSIVE b(n) AS (SELECT CAST(:high AS INTEGER) UNION ALL SELECT n - 1 FROM b WHERE n > :low) "
    "SELECT p.block, p.tokens, p.ends, p.docs FROM b JOIN case_postings p ON p.block = b.n AND p.first < :end "
    "AND p.first >= COALESCE((SELECT q.first FROM case_postings q WHERE q.block = b.n AND q.first <= :begin "
    "ORDER BY q.first DESC LIMIT 1), :begin)"
)
"""The pages of a stretch of blocks on which tokens from `begin` to before `end` can stand."""
_PAGE = text(
    "SELECT p.block, p.tokens, p.ends, p.docs FROM generate_series(CAST(:low AS INTEGER), CAST(:high AS INTEGER)) b(n) "
    "CROSS JOIN LATERAL (SELECT * FROM case_postings q WHERE q.block = b.n AND q.first < :end ORDER BY q.first DESC LIMIT 1) p"
)
"""The same for one token, of which there is one page a block; PostgreSQL finds it so in half the time."""


class Need(NamedTuple):
    """What every hit has: a token of one of these ranges (from, to), and where `only` is given one of these tokens."""

    ranges: tuple[tuple[bytes, bytes], ...]
    only: frozenset[bytes] | None = None


def _needs(asked: Asked, sought: Iterable[Term]) -> list[Need]:
    """In the order in which they are likely to rule out most."""
    exact = sorted({t for term in sought for t in term.exact()}, key=len, reverse=True)[:MOST_TOKENS]
    needs = [Need(((token, token + b"\0"),)) for token in exact]
    words = sorted((term.ranges() for term in sought if not term.wide), key=lambda r: len(r[0][0]), reverse=True)
    needs += [Need(tuple(ranges)) for ranges in words]
    if asked.category is not None:
        token = (CATEGORY + asked.category).encode()
        needs.append(Need(((token, token + b"\0"),)))
    if asked.divisions is not None:
        only = frozenset((DIVISION + d).encode() for d in asked.divisions)
        begin = (os.path.commonprefix([DIVISION + d for d in asked.divisions]) or DIVISION).encode()
        needs.append(Need(((begin, begin + LAST),), only))
    return needs


class Asked(NamedTuple):
    """A question: words that must all be there; category, divisions and instants narrow it before a line is looked at.

    `before` is the cursor of the page before: only cases that came earlier.
    """

    text: str
    category: str | None = None
    divisions: Sequence[str] | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None
    limit: int = 50


def find(
    connection: Connection, asked: Asked, columns: Sequence[str], where: Where = lambda _: [], few: Any = None
) -> tuple[list[dict[str, Any]], int | None]:
    """Cases that fit, the newest first, and the cursor of the next page, None where nothing more can come.

    `where` makes further conditions from `columns`, among which is the id; it must include those that `asked` narrows by, which
    are only hints here. `few` is one of them that leads to few cases: then these are looked at and nothing else. Raises Invalid
    for a text that holds nothing to search for.
    """
    sought = terms(asked.text)
    look = Look(connection, sought, columns, where)
    if few is not None:
        ids = connection.execute(select(cases.c.id).where(few)).scalars().all()
        hits = [hit for hit in look.proved("case_id", ids) if asked.before is None or hit[0] < asked.before]
        return _cut(look.at(hits, asked.limit + 1), asked.limit)
    walk = Walk(connection, asked, sought)
    rows: list[dict[str, Any]] = []
    places, looked = walk.places(), 0
    while batch := list(islice(places, 500 if looked else 2 * asked.limit)):
        rows += look.at(look.proved("seq", batch), asked.limit + 1 - len(rows))
        looked += len(batch)
        if len(rows) > asked.limit:
            return _cut(rows, asked.limit)
        if looked >= CANDIDATES:
            return _cut(rows, asked.limit)[0], batch[-1]
    return _cut(rows, asked.limit)[0], walk.stopped


class Look:
    """Looks at lines and cases themselves, after the postings had their say."""

    def __init__(self, connection: Connection, sought: Iterable[Term], columns: Sequence[str], where: Where) -> None:
        self._connection = connection
        self._lines = select(texts.c.seq, texts.c.case_id).where(*_fits(connection, sought))
        self._whole = select(*(cases.c[c] for c in columns)).where(_among(connection, cases.c.id))
        # With a limit, which keeps SQLite from beginning at all cases that pass the filters.
        near = self._whole.limit(2**31).subquery()
        self._filters = where(near.c)
        self._passing = select(near.c.id).where(*self._filters)

    def proved(self, name: str, among: Sequence[Any]) -> list[tuple[int, str]]:
        """(place, case) of the lines whose `name` is among these and that hold every term, the newest first."""
        query = self._lines.where(_among(self._connection, texts.c[name]))
        return sorted((tuple(row) for row in self._connection.execute(query, self._packed(among))), reverse=True)

    def _packed(self, among: Sequence[Any]) -> dict[str, Any]:
        return {"among": orjson.dumps(among).decode() if self._connection.dialect.name == "sqlite" else among}

    def at(self, proved: Sequence[tuple[int, str]], most: int) -> list[dict[str, Any]]:
        """The first `most` of these cases that pass the filters, each with its place as `seq`."""
        ids = [case_id for _, case_id in proved]
        if self._filters and ids:
            passing = set(self._connection.execute(self._passing, self._packed(ids)).scalars())
            proved = [hit for hit in proved if hit[1] in passing]
        seqs = {case_id: seq for seq, case_id in proved[:most]}
        found = {row["id"]: dict(row) for row in self._connection.execute(self._whole, self._packed(list(seqs))).mappings()}
        return [found[case_id] | {"seq": seq} for case_id, seq in seqs.items()]


def _among(connection: Connection, column: Any) -> Any:
    """The column has one of many values, given as one parameter `among`: drivers take long to read hundreds of them."""
    if connection.dialect.name == "sqlite":
        return column.in_(select(literal_column("value")).select_from(func.json_each(bindparam("among"))))
    kind = BigInteger() if column is texts.c.seq else String()
    return column == func.any(bindparam("among", type_=ARRAY(kind)))


def _cut(rows: Sequence[Mapping[str, Any]], limit: int) -> tuple[list[dict[str, Any]], int | None]:
    """At most `limit` of the rows, and the place of the last where there are more."""
    shown = [{name: value for name, value in row.items() if name != "seq"} for row in rows[:limit]]
    return shown, rows[limit - 1]["seq"] if len(rows) > limit else None


def _fits(connection: Connection, sought: Iterable[Term]) -> list[Any]:
    """A line holds every term; what the postings say is proved by it."""
    place = func.instr if connection.dialect.name == "sqlite" else func.strpos
    return [or_(*(place(texts.c.body, needle) > 0 for needle in term.needles)) for term in sought]


class Walk:
    """The places at which the postings see a hit, from the newest to the oldest; `stopped` tells where it gave up, if it did."""

    def __init__(self, connection: Connection, asked: Asked, sought: tuple[Term, ...]) -> None:
        self.connection, self._needs = connection, _needs(asked, sought)
        self.stopped: int | None = None
        self._outside = self._elsewhen(asked)
        newest = connection.execute(select(func.max(texts.c.seq))).scalar() or 0
        self._top = newest if asked.before is None else min(newest, asked.before - 1)
        self._fresh = self._unposted(sought)

    def _elsewhen(self, asked: Asked) -> frozenset[int]:
        """Blocks of which no case was reported at the time that is asked for."""
        if asked.since is None and asked.until is None:
            return frozenset()
        off = []
        if asked.since is not None:
            off.append(blocks.c.last_at < asked.since)
        if asked.until is not None:
            off.append(blocks.c.first_at >= asked.until)
        return frozenset(self.connection.execute(select(blocks.c.block).where(or_(*off))).scalars())

    def _unposted(self, sought: tuple[Term, ...]) -> Masks:
        """Hits among the places that the postings do not know yet."""
        # Not as a join, which SQLite may begin at the million lines instead of at the few places.
        query = select(texts.c.seq).where(texts.c.seq.in_(select(fresh.c.seq)), *_fits(self.connection, sought))
        masks: Masks = {}
        for seq in self.connection.execute(query).scalars():
            masks[seq >> SHIFT] = masks.get(seq >> SHIFT, 0) | 1 << seq % BLOCK
        return masks

    def places(self) -> Iterator[int]:
        high, width, walked = self._top >> SHIFT, NARROW, 0
        while high >= 0:
            if high in self._outside and high not in self._fresh:
                high -= 1
                continue
            if walked >= WALKED:
                self.stopped = (high + 1) << SHIFT
                return
            low = max(0, high - width + 1)
            masks = self._masks(low, high)
            for block in range(high, low - 1, -1):
                mask = masks.get(block, 0) | self._fresh.get(block, 0)
                if block == self._top >> SHIFT:
                    mask &= (1 << self._top % BLOCK + 1) - 1
                for place in places(mask):
                    yield block << SHIFT | place
            walked, high, width = walked + width, low - 1, min(width * 4, WIDEST)

    def _masks(self, low: int, high: int) -> Masks:
        """Where a stretch of blocks has all that is needed, or so much of it that few places are left."""
        masks: Masks | None = None
        for need in self._needs:
            there = self._standing(need, low, high)
            masks = there if masks is None else {b: both for b, m in masks.items() if (both := m & there.get(b, 0))}
            if sum(m.bit_count() for m in masks.values()) <= FEW:
                break
            low, high = min(masks), max(masks)
        return {block: mask for block, mask in (masks or {}).items() if block not in self._outside}

    def _standing(self, need: Need, low: int, high: int) -> Masks:
        masks: Masks = {}
        for begin, end in need.ranges:
            mark = b"\n" + begin
            stretch = {"low": low, "high": high, "begin": begin, "end": end}
            alone = end == begin + b"\0" and self.connection.dialect.name == "postgresql"
            for block, names, ends, docs in self.connection.execute(_PAGE if alone else _PAGES, stretch):
                if mark not in names:
                    continue
                for token, standing in unpacked(names, ends, docs, begin, end):
                    if need.only is None or token in need.only:
                        masks[block] = masks.get(block, 0) | decoded(standing)
        return masks
