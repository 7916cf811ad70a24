"""Editions of the catalogue as a node keeps them: published with a start date, withdrawn before it, with additions of its own.

What is stored stays as it is: an edition ends where it says so itself or where the next of its node begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import JSON, Column, Connection, RowMapping, String, Table, func, insert, select, update

from services.case.catalogue import Addition, Catalogues, Edition, Legacy, joined
from services.case.entries import Category, Content, checked, faults
from services.case.tables import INSTANT, cases, metadata
from shared.clock import civil_day, stamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound
from shared.kept import Kept

DAY = String(10)

editions = Table(
    "case_editions",
    metadata,
    Column("code", String(40), primary_key=True),
    # The node that published it; empty for one that came with the data pack.
    Column("node", String(20), nullable=False),
    Column("valid_from", DAY),
    Column("valid_to", DAY),
    Column("body", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("note", String(2000), nullable=False),
    Column("entered_at", INSTANT, nullable=False),
    Column("withdrawn_at", INSTANT),
)
"""Every edition under which a case may have been filed."""

additions = Table(
    "case_additions",
    metadata,
    Column("category", String(20), primary_key=True),
    Column("valid_from", DAY, primary_key=True),
    Column("valid_to", DAY),
    Column("body", JSON, nullable=False),
    Column("note", String(2000), nullable=False),
    Column("entered_at", INSTANT, nullable=False),
)
"""Categories that this node added for itself (本地扩展), whatever edition is in force; a changed one has a row a period."""


def catalogue_of(published: Mapping[str, Any], path: Sequence[str]) -> Kept[Catalogues]:
    """The catalogues of a node whose `path` leads from the root to it, on top of what its data pack says.

    `published` is `Pack.standards.published()`. Raises Invalid where the pack's catalogue breaks a rule.
    """
    base = Edition(published["edition"], checked(published["content"]), note=published.get("note", ""))
    given = published.get("legacy", {})
    legacy = Legacy(given.get("edition", ""), dict(given.get("codes", {})))

    def load(connection: Connection) -> Catalogues:
        return Catalogues(base, _published(connection), _additions(connection), legacy, tuple(path))

    return Kept("catalogue", load)


def _published(connection: Connection) -> tuple[Edition, ...]:
    """Editions that were not withdrawn, each ended where its node's next begins."""
    found = _declared(connection)
    return tuple(_ended(e, [o.valid_from for o in found if o.node == e.node and o.valid_from]) for e in found)


def _declared(connection: Connection) -> list[Edition]:
    """The same with the ends that they were published with."""
    wanted = select(editions).where(editions.c.withdrawn_at.is_(None)).order_by(editions.c.node, editions.c.valid_from)
    return [_edition(row) for row in connection.execute(wanted).mappings()]


def _ended(edition: Edition, starts: Iterable[date]) -> Edition:
    later = [s for s in starts if edition.valid_from is not None and s > edition.valid_from]
    ends = [*later, *([edition.valid_to] if edition.valid_to else [])]
    return replace(edition, valid_to=min(ends, default=None))


def _edition(row: RowMapping) -> Edition:
    return Edition(
        code=row["code"],
        content=Content.model_validate(row["body"]),
        valid_from=_day(row["valid_from"]),
        valid_to=_day(row["valid_to"]),
        node=row["node"],
        note=row["note"],
    )


def _additions(connection: Connection) -> tuple[Addition, ...]:
    """In order of code; one that was changed ends where its next period begins."""
    rows = list(connection.execute(select(additions).order_by(additions.c.category, additions.c.valid_from)).mappings())
    found = []
    for row, following in zip(rows, [*rows[1:], None], strict=False):
        ends = [row["valid_to"]] if row["valid_to"] else []
        if following is not None and following["category"] == row["category"]:
            ends.append(following["valid_from"])
        until = min(ends, default=None)
        found.append(Addition(Category.model_validate(row["body"]), date.fromisoformat(row["valid_from"]), _day(until)))
    return tuple(found)


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def written(content: Content) -> Any:
    """The content as JSON values, always in the same order, so that equal contents have equal digests."""
    return content.model_dump(mode="json")


def digest(content: Content) -> str:
    return hashlib.sha256(orjson.dumps(written(content), option=orjson.OPT_SORT_KEYS)).hexdigest()


def remember(tx: Tx, kept: Kept[Catalogues]) -> None:
    """Keep the pack's own edition for the cases that are filed under it, once the pack has moved on to another.

    Raises Conflict where the pack changed its catalogue and kept the edition's code.
    """
    base = kept.get(tx.connection).base
    known = tx.execute(select(editions.c.digest).where(editions.c.code == base.code)).scalar()
    if known is None:
        _write(tx, base)
        kept.changed(tx.connection)
    elif known != digest(base.content):
        raise Conflict(f"the data pack's catalogue changed: give it another edition than {base.code}", field="/edition")


def publish(tx: Tx, kept: Kept[Catalogues], edition: Edition, zone: ZoneInfo) -> None:
    """Bring an edition of this node into force from its start date on; a repetition does nothing. Raises as `examine`."""
    if not examine(tx, kept, edition, zone):
        _write(tx, edition)
        kept.changed(tx.connection)


def examine(tx: Tx, kept: Kept[Catalogues], edition: Edition, zone: ZoneInfo) -> bool:
    """Judge an edition of this node without a change; answers whether just this one was published before.

    Raises Invalid for a content that breaks a rule, a code that does not begin with the node's, or a start after the end;
    Conflict where the code is taken, where another edition of this node holds in that time, where cases were reported since a
    start in the past, or where additions would have no room.
    """
    checked(edition.content)
    if edition.node != tx.node or not edition.code.startswith(f"{tx.node}:"):
        # A code stands in facts without the node that coined it, so that two nodes must not mean different things by it.
        raise Invalid(f"the code begins with the node that publishes it: {tx.node}:{edition.code}", field="/code")
    if edition.valid_from is None:
        raise Invalid("an edition needs the day from which it holds", field="/valid_from")
    if edition.valid_to is not None and edition.valid_to <= edition.valid_from:
        raise Invalid("must lie after valid_from", field="/valid_to")
    if _repeated(tx, edition):
        return True
    _free(edition, [e for e in _declared(tx.connection) if e.node == tx.node])
    _not_used(tx, edition.valid_from, zone)
    _room(edition, kept.get(tx.connection).additions)
    return False


def _repeated(tx: Tx, edition: Edition) -> bool:
    """Whether this very edition is there already. Raises Conflict where its code means another."""
    row = tx.execute(select(editions).where(editions.c.code == edition.code)).mappings().first()
    if row is None:
        return False
    if row["withdrawn_at"] is not None or any(row[name] != value for name, value in _row(edition).items() if name != "body"):
        raise Conflict(f"there is another edition {edition.code}; give this one another code", field="/code")
    return True


def _row(edition: Edition) -> dict[str, Any]:
    return {
        "code": edition.code, "node": edition.node or "", "valid_from": edition.valid_from and edition.valid_from.isoformat(),
        "valid_to": edition.valid_to and edition.valid_to.isoformat(), "body": written(edition.content),
        "digest": digest(edition.content), "note": edition.note,
    }  # fmt: skip


def _write(tx: Tx, edition: Edition) -> None:
    tx.execute(insert(editions).values(**_row(edition), entered_at=stamp(tx.now())))


def _free(edition: Edition, others: Sequence[Edition]) -> None:
    """Editions of a node follow one another: one without end is over where the next begins, one with an end is not cut short."""
    for other in others:
        if other.valid_from == edition.valid_from:
            raise Conflict(f"{other.code} begins on the same day", field="/valid_from")
        first, second = sorted((other, edition), key=lambda e: e.valid_from or date.min)
        if first.valid_to is not None and second.valid_from is not None and first.valid_to > second.valid_from:
            field = "/valid_to" if first is edition else "/valid_from"
            raise Conflict(f"{first.code} and {second.code} would hold on the same days", field=field)


def _not_used(tx: Tx, start: date, zone: ZoneInfo) -> None:
    """A start in the past would change what counted for cases that are there."""
    if start >= today(tx, zone):
        return
    since = stamp(datetime.combine(start, time(), zone))
    if tx.execute(select(cases.c.id).where(cases.c.reported_at >= since).limit(1)).scalar() is not None:
        raise Conflict("cases were reported since that day; begin today or later", field="/valid_from")


def today(tx: Tx, zone: ZoneInfo) -> date:
    return date.fromisoformat(civil_day(tx.now(), zone))


def _room(edition: Edition, added: Iterable[Addition]) -> None:
    still = [a for a in added if a.valid_to is None or edition.valid_from is None or a.valid_to > edition.valid_from]
    if aside := joined(edition, still).set_aside:
        raise Conflict(f"the additions {', '.join(aside)} have no room beside it; end or renumber them first", field="/content")


def withdraw(tx: Tx, kept: Kept[Catalogues], code: str, zone: ZoneInfo) -> None:
    """Take back an edition of this node before its start. Raises NotFound, Conflict once it has begun."""
    row = tx.execute(select(editions).where(editions.c.code == code, editions.c.withdrawn_at.is_(None))).mappings().first()
    if row is None or row["node"] != tx.node:
        raise NotFound(f"this node published no edition {code}", field="/code")
    if row["valid_from"] <= today(tx, zone).isoformat():
        raise Conflict(f"{code} is in force since {row['valid_from']}; publish another one instead", field="/code")
    tx.execute(update(editions).where(editions.c.code == code).values(withdrawn_at=stamp(tx.now())))
    kept.changed(tx.connection)


def add(tx: Tx, kept: Kept[Catalogues], category: Category, start: date, note: str, zone: ZoneInfo) -> None:
    """Add a category of this node's own, or change one, from today or a later day on.

    Raises Invalid where it is not numbered as an extension or breaks a rule in an edition that holds then or later, naming the
    next free number; Conflict where it was changed on that day already.
    """
    if start < today(tx, zone):
        raise Invalid("begins today or later", field="/valid_from")
    if not category.extension:
        raise Invalid("what a node adds is an extension", field="/category/extension")
    known = kept.get(tx.connection)
    others = [a for a in known.additions if a.at(start) and a.category.code != category.code]
    for edition in _from(known, start):
        beside = joined(edition, others).content
        wider = beside.model_copy(update={"categories": (*beside.categories, category)})
        if fault := next(faults(wider), None):
            raise Invalid(f"in {edition.code}: {fault.reason}", field=f"/category/{fault.field}")
    key = {"category": category.code, "valid_from": start.isoformat()}
    if tx.execute(select(additions.c.category).filter_by(**key)).scalar() is not None:
        raise Conflict(f"{category.code} changes on {start} already", field="/valid_from")
    tx.execute(insert(additions).values(**key, body=category.model_dump(mode="json"), note=note, entered_at=stamp(tx.now())))
    kept.changed(tx.connection)


def _from(known: Catalogues, day: date) -> list[Edition]:
    """The editions that hold on that day or begin later, without additions."""
    starts = {day, *(e.valid_from for e in known.published if e.valid_from is not None and e.valid_from > day)}
    bare = replace(known, additions=(), _days={})
    return [bare.at(start) for start in sorted(starts)]


def end(tx: Tx, kept: Kept[Catalogues], code: str, until: date, zone: ZoneInfo) -> None:
    """End an addition: it holds no more on `until`. Raises NotFound, Invalid for a day that is over or before its start."""
    of_code = additions.c.category == code
    last = tx.execute(select(func.max(additions.c.valid_from)).where(of_code)).scalar()
    if last is None:
        raise NotFound(f"this node added no category {code}", field="/category")
    if until < today(tx, zone) or until.isoformat() < last:
        raise Invalid(f"must be today or later, and not before {last}", field="/valid_to")
    tx.execute(update(additions).where(of_code, additions.c.valid_from == last).values(valid_to=until.isoformat()))
    kept.changed(tx.connection)
