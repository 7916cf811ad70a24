"""Facts heard: folds verified facts of one origin into cases and totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from contracts.base import Fact
from contracts.case import CaseFact, CaseReported
from services.evaluation import domain
from services.evaluation.tables import QUANTITIES, cases, totals

_CHANGE = (
    update(cases)
    .where(cases.c.id == bindparam("case_id"))
    .values(**{name: bindparam(name) for name in ("due_at", "closed_at", "seconds", "open")})
)


def fold(connection: Connection, origin: str, facts: Sequence[Fact]) -> None:
    """Fold facts in order: one read of the cases touched, one write of each table. The caller moves the head in the same commit."""
    heard = [f for f in facts if isinstance(f, CaseFact)]
    if not heard:
        return
    rows = _known(connection, {f.case for f in heard if not isinstance(f, CaseReported)})
    fresh: dict[str, domain.Row] = {}
    changed: set[str] = set()
    deltas: dict[domain.Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys(QUANTITIES, 0))
    for fact in heard:
        if isinstance(fact, CaseReported):
            fresh[fact.case] = rows[fact.case] = domain.reported(origin, fact)
        row = rows[fact.case]
        after = domain.change(row, fact)
        if after is not row:
            rows[fact.case] = after
            changed.add(fact.case)
        move = domain.moves(after, fact)
        if move:
            key, names = move
            for name in names:
                deltas[key][name] += 1
    if fresh:
        connection.execute(insert(cases), [rows[i] for i in fresh])
    old = [rows[i] | {"case_id": i} for i in changed if i not in fresh]
    if old:
        connection.execute(_CHANGE, [{k: r[k] for k in ("case_id", "due_at", "closed_at", "seconds", "open")} for r in old])
    if deltas:
        _add(connection, deltas)


def _known(connection: Connection, ids: set[str]) -> dict[str, domain.Row]:
    found: dict[str, domain.Row] = {}
    listed = sorted(ids)
    for start in range(0, len(listed), 500):
        part = listed[start : start + 500]
        for row in connection.execute(select(cases).where(cases.c.id.in_(part))).mappings():
            found[row["id"]] = dict(row)
    return found


def _add(connection: Connection, deltas: dict[domain.Key, dict[str, int]]) -> None:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(totals)
    key = ("origin", "division", "category", "day", "provenance")
    statement = statement.on_conflict_do_update(
        index_elements=list(key), set_={q: totals.c[q] + statement.excluded[q] for q in QUANTITIES}
    )
    # Sorted, so that two copies of the service lock rows in the same order.
    connection.execute(statement, [dict(zip(key, k, strict=True)) | counts for k, counts in sorted(deltas.items())])
