"""The recount that proves the totals: folds every stored fact anew and names each difference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, text

from contracts.base import Fact
from services.evaluation.handlers import READER, fold
from services.evaluation.tables import cases, totals
from shared.chain import Entry
from shared.database import writing
from shared.log import entries, heads
from shared.reader import parse


def recount(engine: Engine, *, mend: bool = False) -> list[str]:
    """Fold every stored fact anew and name each difference to the tables; with `mend` the new count takes their place.

    Runs in one transaction, so that facts arriving meanwhile wait; an empty list says that totals = recount of the facts.
    """
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            # Whoever folds moves a head first, and waits here; a transaction by itself would hold up nobody.
            connection.execute(text("LOCK TABLE log_heads IN SHARE ROW EXCLUSIVE MODE"))
        before = _snapshot(connection)
        connection.execute(delete(totals))
        connection.execute(delete(cases))
        for origin, facts in _stored(connection):
            fold(connection, origin, facts)
        after = _snapshot(connection)
        if not mend:
            connection.rollback()
    names = sorted(before.keys() ^ after.keys()) + sorted(k for k in before.keys() & after.keys() if before[k] != after[k])
    return [f"{' '.join(map(str, k))}: kept {before.get(k)}, recounted {after.get(k)}" for k in names]


def _snapshot(connection: Connection) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    counted = {("total", *r[:5]): tuple(r[5:]) for r in connection.execute(select(totals))}
    # When a fact arrived is not in the fact.
    lasting = [c for c in cases.c if c.name != "changed_at"]
    return counted | {("case", r[0]): tuple(r[1:]) for r in connection.execute(select(*lasting))}


def _stored(connection: Connection, chunk: int = 2000) -> Iterable[tuple[str, list[Fact]]]:
    """Stored facts of every log up to this reader's head: what lies beyond it is known here but not folded yet."""
    known = connection.execute(select(heads.c.log, heads.c.seq).where(heads.c.reader == READER).order_by(heads.c.log)).all()
    for log, until in known:
        last = 0
        while last < until:
            rows = connection.execute(
                select(entries.c.epoch, entries.c.seq, entries.c.version, entries.c.subject, entries.c.body)
                .where(entries.c.log == log, entries.c.seq > last, entries.c.seq <= until)
                .order_by(entries.c.seq)
                .limit(chunk)
            ).all()
            if not rows:
                raise RuntimeError(f"{log} lacks the facts from {last + 1} to {until} that were folded")
            last = rows[-1].seq
            yield log.split("/")[0], parse(log, [Entry(*r) for r in rows])[1]
