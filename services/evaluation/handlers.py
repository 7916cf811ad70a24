"""Facts heard: folds verified facts of one origin into cases and totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from contracts.base import Fact
from contracts.case import (
    CaseClosed,
    CaseDispatched,
    CaseFact,
    CaseFiled,
    CaseHandled,
    CaseRefused,
    CaseReported,
    CaseReworked,
)
from services.evaluation import domain
from services.evaluation.tables import QUANTITIES, cases, totals
from shared.clock import stamp
from shared.database import bulk, now
from shared.reader import Unknown

READER = "evaluation"
"""The name under which this service keeps its place in every log."""

HEARS: tuple[type[Fact], ...] = (
    CaseReported, CaseFiled, CaseRefused, CaseDispatched, CaseHandled, CaseReworked, CaseClosed,
)  # fmt: skip
"""Facts that change a row or a total here."""

_ADD = insert(cases)
_CHANGE = (
    update(cases)
    .where(cases.c.id == bindparam("case_id"))
    .values(**{name: bindparam(name) for name in domain.CHANGING})
)


def fold(connection: Connection, origin: str, facts: Sequence[Fact]) -> None:
    """Fold facts in order: one read of the cases touched, one write a table. The caller moves the head in the same commit.

    Raises Unknown for a fact about a case that this origin never reported: another county's cases are not its to state.
    """
    heard = [f for f in facts if isinstance(f, CaseFact)]
    if not heard:
        return
    rows = _known(connection, {f.case for f in heard})
    fresh: dict[str, None] = {}
    deltas: dict[domain.Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys(QUANTITIES, 0))
    for fact in heard:
        if isinstance(fact, CaseReported):
            if fact.case in rows:
                raise Unknown(f"{origin} reports {fact.case}, which was reported before")
            fresh[fact.case] = None
            rows[fact.case] = domain.reported(origin, fact)
        rows[fact.case] = domain.change(_of(origin, fact, rows), fact)
        key, names = domain.moves(rows[fact.case], fact)
        for name in names:
            deltas[key][name] += 1
    _write(connection, rows, fresh)
    if deltas:
        _add(connection, deltas)


def _of(origin: str, fact: CaseFact, rows: dict[str, domain.Row]) -> domain.Row:
    row = rows.get(fact.case)
    if row is None or row["origin"] != origin:
        raise Unknown(f"{origin} states {fact.type} of {fact.case}, which it never reported")
    return row


def _write(connection: Connection, rows: dict[str, domain.Row], fresh: Mapping[str, None]) -> None:
    # When this node learnt of it, so that readers who ask for changes since an hour miss nothing that arrives late.
    at = stamp(now())
    for row in rows.values():
        row["changed_at"] = at
    if fresh:
        bulk(connection, _ADD, [rows[i] for i in fresh])
    old = [{"case_id": i} | {n: row[n] for n in domain.CHANGING} for i, row in rows.items() if i not in fresh]
    if old:
        bulk(connection, _CHANGE, old)


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
