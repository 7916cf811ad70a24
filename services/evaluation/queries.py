"""Questions to the evaluation service: figures by dimension and the recount that proves them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select

from contracts.base import Fact
from services.evaluation import domain
from services.evaluation.handlers import READER, fold
from services.evaluation.tables import QUANTITIES, cases, totals
from shared.chain import Entry
from shared.clock import unstamp
from shared.database import now, reading
from shared.errors import Invalid
from shared.log import entries, heads
from shared.reader import parse, waiting
from shared.settings import Node

DIMENSIONS = ("origin", "division", "category", "day", "provenance")


@dataclass(frozen=True)
class Filter:
    """Which part of what this node knows: origins (None = all), categories, civil days (both inclusive)."""

    origins: Sequence[str] | None = None
    category: str | None = None
    first_day: str | None = None
    last_day: str | None = None


def figures(engine: Engine, by: Sequence[str], wanted: Filter, at: str) -> list[dict[str, Any]]:
    """Figures grouped by `by` (of DIMENSIONS) at the instant `at`; overdue open and median are of the cases, not of days."""
    with reading(engine) as connection:
        groups = _counts(connection, by, wanted)
        if "day" not in by:
            _add_overdue(connection, groups, by, wanted, at)
            _add_median(connection, groups, by, wanted)
    rows = []
    for key in sorted(groups):
        counts = groups[key]
        rows.append(dict(zip(by, key, strict=True)) | counts | {"on_time_rate": domain.on_time_rate(counts)})
    return rows


def _empty() -> dict[str, Any]:
    return dict.fromkeys((*QUANTITIES, "overdue_open", "open"), 0) | {"median_seconds": None}


def _counts(connection: Connection, by: Sequence[str], wanted: Filter) -> dict[tuple[str, ...], dict[str, Any]]:
    columns = [totals.c[d] for d in by]
    query = select(*columns, *(func.sum(totals.c[q]) for q in QUANTITIES)).group_by(*columns)
    query = _narrow(query, totals, wanted)
    if wanted.first_day:
        query = query.where(totals.c.day >= wanted.first_day)
    if wanted.last_day:
        query = query.where(totals.c.day <= wanted.last_day)
    return {
        tuple(row[: len(by)]): _empty() | dict(zip(QUANTITIES, (int(v or 0) for v in row[len(by) :]), strict=True))
        for row in connection.execute(query)
    }


def _narrow(query: Any, table: Any, wanted: Filter) -> Any:
    if wanted.origins is not None:
        query = query.where(table.c.origin.in_(wanted.origins))
    if wanted.category:
        query = query.where(table.c.category == wanted.category)
    return query


def _add_overdue(
    connection: Connection, groups: dict[tuple[str, ...], dict[str, Any]], by: Sequence[str], wanted: Filter, at: str
) -> None:
    columns = [cases.c[d] for d in by]
    late = func.sum(func.coalesce(cases.c.due_at < at, False).cast(totals.c.closed.type))
    query = _narrow(select(*columns, func.count(), late).where(cases.c.open).group_by(*columns), cases, wanted)
    for row in connection.execute(query):
        group = groups.setdefault(tuple(row[: len(by)]), _empty())
        group["open"], group["overdue_open"] = int(row[-2]), int(row[-1] or 0)


def _add_median(connection: Connection, groups: dict[tuple[str, ...], dict[str, Any]], by: Sequence[str], wanted: Filter) -> None:
    """Median of seconds from report to close, exact: the mean of the two middle values where their count is even."""
    columns = [cases.c[d] for d in by]
    query = _narrow(select(*columns, cases.c.seconds).where(cases.c.seconds.is_not(None)), cases, wanted)
    spans: dict[tuple[str, ...], list[int]] = {}
    for row in connection.execute(query):
        spans.setdefault(tuple(row[: len(by)]), []).append(row[-1])
    for key, values in spans.items():
        groups.setdefault(key, _empty())["median_seconds"] = median(values)


def below(node: Node, code: str) -> list[str]:
    """The codes of the subtree under `code`, itself included. Raises Invalid for a node that is not here."""
    if code == node.code:
        return list(node.routes())
    found = [b.code for b in node.subtree if code in b.route]
    if not found:
        raise Invalid(f"{code} is neither this node nor below it", field="/node")
    return found


def total(engine: Engine, origins: Sequence[str] | None, at: str) -> dict[str, Any]:
    """One sum over the given origins."""
    rows = figures(engine, [], Filter(origins), at)
    return rows[0] if rows else _empty() | {"on_time_rate": None}


def links(engine: Engine, node: Node, ahead: Mapping[str, tuple[int, float]]) -> list[dict[str, Any]]:
    """The state of every log heard from below. `ahead` holds (the child's sequence, when it was asked) by log."""
    with reading(engine) as connection:
        found = {r.log: r for r in connection.execute(select(heads).where(heads.c.reader == READER))}
    held = waiting(engine, READER)
    rows = []
    for origin in node.subtree:
        log = f"{origin.code}/case"
        known = found.get(log)
        seq = known.seq if known else 0
        theirs, asked = ahead.get(log, (seq, 0.0))
        lag = max(0, theirs - seq)
        silent = asked == 0.0 or monotonic() - asked > 10
        state = "quarantine" if held.get(log) else "silent" if silent else "lagging" if lag else "ok"
        heard = known.heard_at if known else None
        seconds = (now() - unstamp(heard)).total_seconds() if heard and (lag or silent) else 0.0
        rows.append(
            {"code": origin.code, "names": origin.names.model_dump(), "log": log, "state": state, "heard_at": heard,
             "lag_events": lag, "lag_seconds": round(seconds, 1), "verified_seq": seq, "quarantine": held.get(log, 0)}
        )  # fmt: skip
    return rows


def recount(engine: Engine, *, mend: bool = False) -> list[str]:
    """Fold every stored fact anew and name each difference to the tables; with `mend` the new count takes their place.

    Runs in one transaction, so that facts arriving meanwhile wait; an empty list says that totals = recount of the facts.
    """
    with engine.begin() as connection:
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
    return counted | {("case", r[0]): tuple(r[1:]) for r in connection.execute(select(cases))}


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
