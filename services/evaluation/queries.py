"""Questions to the evaluation service: figures by any dimension, areas at every level, cases, and the state of the links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, func, select

from services.evaluation import domain
from services.evaluation.handlers import READER
from services.evaluation.tables import QUANTITIES, cases, totals
from shared.compare import Ahead
from shared.database import reading
from shared.errors import Invalid
from shared.listing import Chain, Wanted, page
from shared.log import heads
from shared.reader import waiting
from shared.settings import Node

DIMENSIONS = ("origin", "division", "area", "category", "day", "provenance")
"""`area` is a division and all divisions that it lies in: one row for each, at every level."""

CASE_COLUMNS = (
    "id", "origin", "number", "state", "category", "edition", "channel", "provenance", "dataset", "part", "lon", "lat",
    "division", "cell", "department", "reported_at", "filed_at", "due_at", "handled_at", "ended_at", "on_time", "exempt",
    "changed_at",
)  # fmt: skip
Key = tuple[str, ...]


class Areas(Protocol):
    """What evaluation needs to know of divisions."""

    def chain(self, division: str) -> tuple[str, ...]:
        """The divisions that a division lies in, itself first."""
        ...

    def names(self, division: str) -> dict[str, str]:
        """{"zh", "en"} of a division; its code where it has no name."""
        ...


@dataclass(frozen=True)
class Filter:
    """Which part of what this node knows: origins (None = all), category, civil days (both inclusive)."""

    origins: Sequence[str] | None = None
    category: str | None = None
    first_day: str | None = None
    last_day: str | None = None


@dataclass
class Group:
    """The counts of one group and the spans from report to close behind its median, in seconds."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*QUANTITIES, "open", "overdue_open"), 0))
    spans: list[int] = field(default_factory=list)

    def add(self, other: Group) -> None:
        for name, value in other.counts.items():
            self.counts[name] += value
        self.spans += other.spans

    def shown(self) -> dict[str, Any]:
        """Counts, the exact median (the mean of the two middle values where their count is even) and the rate."""
        middle = median(self.spans) if self.spans else None
        return self.counts | {"median_seconds": middle, "on_time_rate": domain.on_time_rate(self.counts)}


def figures(engine: Engine, by: Sequence[str], wanted: Filter, at: str, chain: Chain) -> list[dict[str, Any]]:
    """Figures grouped by `by` (of DIMENSIONS) at the instant `at`; overdue open and median are of the cases, not of days."""
    with reading(engine) as connection:
        groups = gather(connection, ["division" if d == "area" else d for d in by], wanted, at)
    if "area" in by:
        groups = roll_up(groups, by.index("area"), chain)
    # A backlog has no day, nor has a rate that counts it: not known is not zero.
    unknown = dict.fromkeys(("open", "overdue_open", "median_seconds", "on_time_rate")) if "day" in by else {}
    return [dict(zip(by, key, strict=True)) | groups[key].shown() | unknown for key in sorted(groups)]


def gather(connection: Connection, by: Sequence[str], wanted: Filter, at: str) -> dict[Key, Group]:
    """Groups by columns of the tables; with `day` only what happened on days is counted, since backlogs have no day."""
    groups: dict[Key, Group] = {}
    _counts(connection, groups, by, wanted)
    if "day" not in by:
        _open(connection, groups, by, wanted, at)
        _spans(connection, groups, by, wanted)
    return groups


def roll_up(groups: Mapping[Key, Group], place: int, chain: Chain) -> dict[Key, Group]:
    """Every group counted for each division that its own lies in; `place` is where the division stands in the key."""
    found: dict[Key, Group] = {}
    for key, group in groups.items():
        for area in chain(key[place]):
            found.setdefault((*key[:place], area, *key[place + 1 :]), Group()).add(group)
    return found


def _counts(connection: Connection, groups: dict[Key, Group], by: Sequence[str], wanted: Filter) -> None:
    columns = [totals.c[d] for d in by]
    query = _narrow(select(*columns, *(func.sum(totals.c[q]) for q in QUANTITIES)).group_by(*columns), totals, wanted)
    if wanted.first_day:
        query = query.where(totals.c.day >= wanted.first_day)
    if wanted.last_day:
        query = query.where(totals.c.day <= wanted.last_day)
    for row in connection.execute(query):
        group = groups.setdefault(tuple(row[: len(by)]), Group())
        group.counts |= {q: int(v or 0) for q, v in zip(QUANTITIES, row[len(by) :], strict=True)}


def _narrow(query: Any, table: Any, wanted: Filter) -> Any:
    if wanted.origins is not None:
        query = query.where(table.c.origin.in_(wanted.origins))
    if wanted.category:
        query = query.where(table.c.category == wanted.category)
    return query


def _open(connection: Connection, groups: dict[Key, Group], by: Sequence[str], wanted: Filter, at: str) -> None:
    columns = [cases.c[d] for d in by]
    late = func.sum(func.coalesce(cases.c.due_at < at, False).cast(totals.c.closed.type))
    query = _narrow(select(*columns, func.count(), late).where(cases.c.open).group_by(*columns), cases, wanted)
    for row in connection.execute(query):
        counts = groups.setdefault(tuple(row[: len(by)]), Group()).counts
        counts["open"], counts["overdue_open"] = int(row[-2]), int(row[-1] or 0)


def _spans(connection: Connection, groups: dict[Key, Group], by: Sequence[str], wanted: Filter) -> None:
    columns = [cases.c[d] for d in by]
    query = _narrow(select(*columns, cases.c.seconds).where(cases.c.seconds.is_not(None)), cases, wanted)
    for row in connection.execute(query):
        groups.setdefault(tuple(row[: len(by)]), Group()).spans.append(row[-1])


def below(node: Node, code: str) -> list[str]:
    """The codes of the subtree under `code`, itself included. Raises Invalid for a node that is not here."""
    if code == node.code:
        return list(node.routes())
    found = [b.code for b in node.subtree if code in b.route]
    if not found:
        raise Invalid(f"{code} is neither this node nor below it", field="/node")
    return found


def overview(engine: Engine, node: Node, areas: Areas, at: str, today: str, days: int) -> dict[str, Any]:
    """What a page shows, all of one snapshot: totals, a row for each unit right below, the trend, where the cases come from."""
    with reading(engine) as connection:
        whole, rows = children(connection, node, areas, at)
        kinds = gather(connection, ["provenance"], Filter(), at)
        by_day = trend(connection, today, days)
    origins = [{"provenance": key[0], "reported": group.counts["reported"]} for key, group in sorted(kinds.items())]
    return {"as_of": at, "totals": whole.shown(), "children": rows, "trend": by_day, "provenance": origins}


def children(connection: Connection, node: Node, areas: Areas, at: str) -> tuple[Group, list[dict[str, Any]]]:
    """(the node's own totals, one row for each unit right below): child nodes, or where there are none the divisions."""
    whole = Group()
    if node.children():
        by_origin = gather(connection, ["origin"], Filter(), at)
        units = {c.code: (c.names.model_dump(), [(o,) for o in below(node, c.code)]) for c in node.children()}
        groups = by_origin
    else:
        groups = gather(connection, ["division"], Filter(), at)
        units = {}
        for (division,) in groups:
            chain = areas.chain(division)
            unit = chain[chain.index(node.code) - 1] if node.code in chain[1:] else division
            units.setdefault(unit, (areas.names(unit), []))[1].append((division,))
    for group in groups.values():
        whole.add(group)
    rows = []
    for code in sorted(units):
        names, keys = units[code]
        group = Group()
        for key in keys:
            group.add(groups.get(key, Group()))
        rows.append({"code": code, "names": names, "totals": group.shown()})
    return whole, rows


def trend(connection: Connection, today: str, days: int) -> list[dict[str, Any]]:
    """Counts by day of the last `days` days that hold any; a replayed record may have ended years ago."""
    recent = select(totals.c.day).where(totals.c.day <= today).distinct().order_by(totals.c.day.desc()).limit(days)
    known = [d for (d,) in connection.execute(recent)]
    if not known:
        return []
    groups = gather(connection, ["day"], Filter(first_day=known[-1], last_day=known[0]), "")
    return [{"day": key[0]} | {q: groups[key].counts[q] for q in QUANTITIES} for key in sorted(groups)]


def listed(engine: Engine, wanted: Wanted, chain: Chain) -> tuple[list[dict[str, Any]], str | None]:
    """A page of cases and the cursor of the next, if there is one. Raises Invalid naming the filter."""
    with reading(engine) as connection:
        return page(connection, cases, CASE_COLUMNS, wanted, chain)


def links(engine: Engine, node: Node, ahead: Mapping[str, Ahead]) -> list[dict[str, Any]]:
    """The state of every log heard from below, with what the children last said of their own heads."""
    with reading(engine) as connection:
        found = {r.log: r for r in connection.execute(select(heads).where(heads.c.reader == READER))}
    held = waiting(engine, READER)
    rows = []
    for origin in node.subtree:
        log = f"{origin.code}/case"
        known, theirs = found.get(log), ahead.get(log)
        seq, heard = (known.seq, known.heard_at) if known else (0, None)
        lag = max(0, theirs.seq - seq) if theirs else 0
        state = _state(theirs, lag, held.get(log, 0))
        seconds = _seconds(theirs, state)
        rows.append(
            {"code": origin.code, "names": origin.names.model_dump(), "log": log, "state": state, "heard_at": heard,
             "lag_events": lag, "lag_seconds": round(seconds, 1), "verified_seq": seq, "quarantine": held.get(log, 0)}
        )  # fmt: skip
    return rows


def _seconds(theirs: Ahead | None, state: str) -> float:
    """How long the state has lasted: since the origin last answered, or since we fell behind; 0 while in step."""
    if theirs is None or state not in ("silent", "lagging", "quarantine"):
        return 0.0
    return monotonic() - (theirs.asked if state == "silent" else theirs.since or monotonic())


def _state(theirs: Ahead | None, lag: int, held: int) -> str:
    """The worst that is true: wrong facts, a history that does not fit, silence, lag."""
    if theirs and theirs.trouble:
        return theirs.trouble
    if theirs is None or monotonic() - theirs.asked > 10:
        return "silent"
    if lag and held:
        return "quarantine"
    return "lagging" if lag else "ok"
