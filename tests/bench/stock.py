"""A county's database full of older cases: rows as years of work leave them, written in bulk past the use cases, and findable."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

from sqlalchemy import Engine, insert, text

from services.case.postings import adopt
from services.case.tables import cases
from services.grid.packs import Pack
from shared.clock import stamp
from shared.database import open_engine

CHUNK = 5000
OPEN = 0.02
"""Share of cases that are open: a county of a million old cases works at some twenty thousand."""
STATES = ("filed", "dispatched", "handling", "handled", "checked")
STAGES = {"filed": "dispatch", "dispatched": "handling", "handling": "handling", "handled": "closing", "checked": "closing"}
SYLLABLES = [chr(0x4E00 + 3 * n) for n in range(3000)]
SPAN = timedelta(days=1500)


class Words:
    """Sentences whose characters are as unevenly frequent as those of a language."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        weights = [1 / (n + 3) ** 0.9 for n in range(len(SYLLABLES))]
        self.known = ["".join(self.dice.choices(SYLLABLES, weights, k=self.dice.choice((2, 2, 2, 3, 4)))) for _ in range(20_000)]
        self._weights = list(accumulate(1 / (n + 10) for n in range(len(self.known))))

    def some(self, count: int) -> list[str]:
        return self.dice.choices(self.known, cum_weights=self._weights, k=count)

    def sentence(self) -> str:
        words = self.some(self.dice.randint(4, 14))
        return "，".join("".join(words[n : n + 3]) for n in range(0, len(words), 3))


def fill(url: str, code: str, pack: Pack, count: int) -> None:
    """Put `count` cases into the case service's tables of a node whose schema is there, and index what they say."""
    engine = open_engine(url)
    words, cells = Words(7), [c for c in pack.cells.cells if c.code.startswith(code)]
    kinds = [c.code for c in pack.catalogue]
    for start in range(0, count, CHUNK):
        with engine.begin() as connection:
            rows = [_row(n, count, code, words, cells, kinds) for n in range(start, min(count, start + CHUNK))]
            connection.execute(insert(cases), rows)
    with engine.begin() as connection:
        adopt(connection)
    _settle(engine)
    engine.dispose()


def _row(n: int, count: int, code: str, words: Words, cells: list[Any], kinds: list[str]) -> dict[str, Any]:
    dice, cell = words.dice, words.dice.choice(cells)
    at = datetime.now(UTC) - SPAN * ((count - n) / count) - timedelta(hours=1)
    working = dice.random() < OPEN
    state = dice.choice(STATES) if working else "closed"
    point = cell.outline.representative_point()
    due = at + timedelta(days=2)
    late = datetime.now(UTC) + timedelta(hours=dice.uniform(-20, 40)) if working else None
    return {
        "id": f"{n >> 16:08x}-{n & 0xFFFF:04x}-7000-8000-{n:012x}", "number": f"{code}-{at:%Y%m%d}-{n:07d}", "version": 7,
        "state": state, "category": dice.choice(kinds), "edition": "bench", "channel": "collector", "provenance": "generated",
        "lon": round(point.x + dice.uniform(-0.004, 0.004), 6), "lat": round(point.y + dice.uniform(-0.004, 0.004), 6),
        "located": "map", "division": cell.division, "cell": cell.code, "text": words.sentence(),
        "place": f"{words.some(1)[0]}路{dice.randint(1, 400)}号", "department": f"office-{dice.randrange(40)}",
        "reported_at": stamp(at), "filed_at": stamp(at), "due_at": stamp(due), "last_at": stamp(at), "changed_at": stamp(at),
        "handled_at": None if working else stamp(at + timedelta(days=1)), "on_time": None if working else True,
        "ended_at": None if working else stamp(at + timedelta(days=1)), "stage": STAGES.get(state),
        "warn_at": stamp(late - timedelta(hours=1)) if late else None, "late_at": stamp(late) if late else None,
    }  # fmt: skip


def _settle(engine: Engine) -> None:
    """What a database does by itself in time: statistics, and the write-ahead log put into the file."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        return
    raw = engine.raw_connection()
    for statement in ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"):
        raw.cursor().execute(statement).fetchall()
    raw.close()
