"""Facts heard: folds verified facts of one origin into cases and totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from contracts.base import Fact
from contracts.case import CaseAmended, CaseFact, CaseReported
from services.evaluation import domain
from services.evaluation.tables import QUANTITIES, cases, totals
from shared.clock import stamp
from shared.database import bulk, now
from shared.reader import Unknown

READER = "evaluation"
"""The name under which this service keeps its place in every log."""

HEARS: tuple[type[Fact], ...] = (CaseReported, *domain.TURNS)
"""Facts that change a row or a total here."""

KEY = ("origin", "division", "category", "day", "provenance")
_COLUMNS = tuple(column.name for column in cases.c)
_ADD = insert(cases)
_CHANGE, _PLACE = (
    update(cases).where(cases.c.id == bindparam("case_id")).values(**{name: bindparam(name) for name in names})
    for names in (domain.CHANGING, domain.PLACED)
)
_EMPTY = delete(totals).where(*(totals.c[k] == bindparam(f"the_{k}") for k in KEY), *(totals.c[q] == 0 for q in QUANTITIES))


@dataclass
class Folded:
    """What a batch comes to: the cases it is about, which of them are new, changed or placed anew, and how totals move."""

    rows: dict[str, domain.Row]
    fresh: dict[str, None] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    placed: dict[str, None] = field(default_factory=dict)
    deltas: defaultdict[domain.Key, dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict.fromkeys(QUANTITIES, 0))
    )


def fold(connection: Connection, origin: str, facts: Sequence[Fact]) -> None:
    """Fold facts in order: one read of the cases touched, one write a table. The caller moves the head in the same commit.

    Raises Unknown for a fact about a case that this origin never reported: another county's cases are not its to state.
    """
    heard = [f for f in facts if isinstance(f, CaseFact)]
    if not heard:
        return
    rows = _known(connection, {f.case for f in heard})
    folded = Folded(rows)
    for fact in heard:
        case = fact.case
        before = rows.get(case)
        if isinstance(fact, CaseReported):
            if before is not None:
                raise Unknown(f"{origin} reports {case}, which was reported before")
            rows[case] = after = domain.reported(origin, fact)
            folded.fresh[case] = None
        else:
            if before is None or before["origin"] != origin:
                raise Unknown(f"{origin} states {fact.type} of {case}, which it never reported")
            after = domain.change(before, fact)
            if after is before:
                continue
            rows[case] = after
            folded.changed[case] = None
            if isinstance(fact, CaseAmended):
                folded.placed[case] = None
        for key, name, by in domain.moves(before, after):
            folded.deltas[key][name] += by
    _write(connection, folded)
    _add(connection, folded.deltas)


def _write(connection: Connection, folded: Folded) -> None:
    rows, fresh = folded.rows, folded.fresh
    # When this node learnt of it, so that readers who ask for changes since an hour miss nothing that arrives late.
    at = stamp(now())
    for case in folded.changed | fresh:
        rows[case]["changed_at"] = at
    if fresh:
        bulk(connection, _ADD, [rows[i] for i in fresh])
    for statement, names, touched in (
        (_CHANGE, domain.CHANGING, folded.changed),
        (_PLACE, domain.PLACED, folded.placed),
    ):
        if old := [{"case_id": i} | {n: rows[i][n] for n in names} for i in touched if i not in fresh]:
            bulk(connection, statement, old)


def _known(connection: Connection, ids: set[str]) -> dict[str, domain.Row]:
    found: dict[str, domain.Row] = {}
    listed = sorted(ids)
    for start in range(0, len(listed), 500):
        part = listed[start : start + 500]
        for row in connection.execute(select(cases).where(cases.c.id.in_(part))):
            # Not by the library's own mapping of a row, which looks every name up by itself.
            found[row[0]] = dict(zip(_COLUMNS, row, strict=True))
    return found


def _add(connection: Connection, deltas: Mapping[domain.Key, dict[str, int]]) -> None:
    """Move the totals; a row whose last count went elsewhere goes, since groups and days with nothing in them are not shown."""
    # Sorted, so that two copies of the service lock rows in the same order.
    moved = [(key, counts) for key, counts in sorted(deltas.items()) if any(counts.values())]
    if not moved:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(totals)
    statement = statement.on_conflict_do_update(
        index_elements=list(KEY), set_={q: totals.c[q] + statement.excluded[q] for q in QUANTITIES}
    )
    connection.execute(statement, [{**dict(zip(KEY, key, strict=True)), **counts} for key, counts in moved])
    if less := [key for key, counts in moved if min(counts.values()) < 0]:
        connection.execute(_EMPTY, [{f"the_{k}": v for k, v in zip(KEY, key, strict=True)} for key in less])
