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

from sqlalchemy import Connection, bindparam, func, or_, select, text

from services.case.postings import BLOCK, CATEGORY, DIVISION, SHIFT, blocks, decoded, fresh, places, texts, unpacked
from services.case.tables import cases
from services.case.terms import LAST, Term, terms

CANDIDATES, WALKED = 4000, 2048
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

    `where` makes further conditions from the columns of a case; it must include those that `asked` narrows by, which are only
    hints here. `few` is one of them that leads to few cases: then these are looked at and nothing else. Raises Invalid for a text
    that holds nothing to search for.
    """
    sought = terms(asked.text)
    if few is not None:
        return _among(connection, asked, sought, columns, where, few)
    walk = Walk(connection, asked, sought)
    query = (
        select(texts.c.seq, *(cases.c[c] for c in columns))
        .join(cases, cases.c.id == texts.c.case_id)
        .where(texts.c.seq.in_(bindparam("places", expanding=True)), *_fits(connection, sought), *where(cases.c))
        .order_by(texts.c.seq.desc())
    )
    rows: list[dict[str, Any]] = []
    hits, looked = walk.places(), 0
    while batch := list(islice(hits, 500 if looked else 2 * asked.limit)):
        page = query.limit(asked.limit + 1 - len(rows))
        rows += map(dict, connection.execute(page, {"places": batch}).mappings())
        looked += len(batch)
        if len(rows) > asked.limit:
            return _cut(rows, asked.limit)
        if looked >= CANDIDATES:
            return _shown(rows), batch[-1]
    return _shown(rows), walk.stopped


def _among(
    connection: Connection, asked: Asked, sought: Iterable[Term], columns: Sequence[str], where: Where, few: Any
) -> tuple[list[dict[str, Any]], int | None]:
    # A limit keeps both databases from turning it round and going through all lines instead.
    near = select(cases).where(few).limit(2**31).subquery()
    query = (
        select(texts.c.seq, *(near.c[c] for c in columns))
        .join(near, near.c.id == texts.c.case_id)
        .where(*_fits(connection, sought), *where(near.c))
        .order_by(texts.c.seq.desc())
        .limit(asked.limit + 1)
    )
    if asked.before is not None:
        query = query.where(texts.c.seq < asked.before)
    rows = list(map(dict, connection.execute(query).mappings()))
    return _cut(rows, asked.limit) if len(rows) > asked.limit else (_shown(rows), None)


def _cut(rows: Sequence[Mapping[str, Any]], limit: int) -> tuple[list[dict[str, Any]], int | None]:
    return _shown(rows[:limit]), rows[limit - 1]["seq"]


def _shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seq"} for row in rows]


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
        query = select(texts.c.seq).join(fresh, fresh.c.seq == texts.c.seq).where(*_fits(self.connection, sought))
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
        return {block: mask for block, mask in (masks or {}).items() if block not in self._outside}

    def _standing(self, need: Need, low: int, high: int) -> Masks:
        masks: Masks = {}
        for begin, end in need.ranges:
            mark = b"\n" + begin
            stretch = {"low": low, "high": high, "begin": begin, "end": end}
            for block, names, ends, docs in self.connection.execute(_PAGES, stretch):
                if mark not in names:
                    continue
                for token, standing in unpacked(names, ends, docs, begin, end):
                    if need.only is None or token in need.only:
                        masks[block] = masks.get(block, 0) | decoded(standing)
        return masks
