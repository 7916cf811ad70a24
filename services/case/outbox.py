"""What waits to be sent to others 发件箱: mails and webhook calls, written together with what they tell of, sent afterwards.

Items of one target are sent in order, and only the oldest that waits may be claimed, by compare-and-set on its lease: so no two
copies of the service send to one target at a time. Sending is at least once; a receiver knows repetitions by the stable `id`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from services.case.tables import INSTANT, metadata
from shared.clock import stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, NotFound

State = Literal["waiting", "sent", "failed"]
Ended = Literal["sent", "failed"]
Kind = Literal["mail", "webhook"]

_WAITING, _ENDED = text("state = 'waiting'"), text("ended_at IS NOT NULL")

outbox = Table(
    "case_outbox",
    metadata,
    # The order of sending; ids of one millisecond have none.
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("kind", String(8), nullable=False),
    Column("target", String(140), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    # Since when it waits: the creation, or the last replay.
    Column("queued_at", INSTANT, nullable=False),
    Column("next_try_at", INSTANT, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("state", String(8), nullable=False),
    Column("ended_at", INSTANT),
    Column("last_error", String(120)),
    Column("lease", String(40)),
    Column("lease_until", INSTANT),
    Index("case_outbox_waiting", "target", "place", sqlite_where=_WAITING, postgresql_where=_WAITING),
    # Without what waits: a planner that may choose between two indexes looks through all of it for one.
    Index("case_outbox_ended", "state", "ended_at", sqlite_where=_ENDED, postgresql_where=_ENDED),
)
"""`payload` holds codes only. `last_error` is a code of ours: what a receiver answered is not kept."""

LEASE = timedelta(seconds=60)
"""Longer than one sending may take, so that a lease runs out only where its holder died."""
FIRST, LONGEST = 5.0, 3600.0
"""Seconds before the second try, and at most between two; each failure doubles the pause."""
KEPT = {"sent": timedelta(days=30), "failed": timedelta(days=90)}

_ADD = insert(outbox)
_HEADS = text(
    """
    WITH RECURSIVE heads(target) AS (
      SELECT min(target) FROM case_outbox WHERE state = 'waiting'
      UNION ALL
      SELECT (SELECT min(o.target) FROM case_outbox o WHERE o.state = 'waiting' AND o.target > heads.target)
      FROM heads WHERE heads.target IS NOT NULL
    )
    SELECT o.place, o.target FROM heads JOIN case_outbox o
      ON o.place = (SELECT min(w.place) FROM case_outbox w WHERE w.state = 'waiting' AND w.target = heads.target)
    WHERE o.next_try_at <= :now AND (o.lease_until IS NULL OR o.lease_until < :now)
    ORDER BY o.next_try_at LIMIT :most
    """
)
"""The oldest waiting item of each target, found target by target on the index, however many wait behind it."""
_OLDEST = select(outbox).where(outbox.c.state == "waiting", outbox.c.target == bindparam("of")).order_by(outbox.c.place).limit(1)


class Draft(NamedTuple):
    """Something to be sent: by mail or webhook, to whom, what."""

    kind: Kind
    target: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One item that this holder has claimed."""

    place: int
    id: str
    kind: Kind
    target: str
    payload: dict[str, Any]
    created_at: str
    queued_at: str
    tries: int


def put(tx: Tx, drafts: Iterable[Draft]) -> None:
    """Write items into the outbox, in the transaction of what they tell of."""
    at = stamp(tx.now())
    rows = [
        {"id": f"msg_{tx.new_id()}", "kind": d.kind, "target": d.target, "payload": dict(d.payload), "created_at": at,
         "queued_at": at, "next_try_at": at, "state": "waiting"}
        for d in drafts
    ]  # fmt: skip
    if rows:
        tx.execute(_ADD, rows)


def due(connection: Connection, at: datetime, most: int) -> list[str]:
    """Targets whose oldest waiting item may be tried now."""
    return [row.target for row in connection.execute(_HEADS, {"now": stamp(at), "most": most})]


def claim(tx: Tx, target: str, holder: str) -> Item | None:
    """Take the oldest waiting item of a target; None where there is none, it is not its time, or somebody else has it."""
    at = stamp(tx.now())
    row = tx.execute(_OLDEST, {"of": target}).mappings().first()
    if row is None or row["next_try_at"] > at:
        return None
    free = or_(outbox.c.lease_until.is_(None), outbox.c.lease_until < at)
    mine = update(outbox).where(outbox.c.place == row["place"], outbox.c.state == "waiting", free)
    if tx.execute(mine.values(lease=holder, lease_until=stamp(tx.now() + LEASE))).rowcount != 1:
        return None
    return Item(**{name: row[name] for name in Item.__dataclass_fields__})


def sent(tx: Tx, item: Item, holder: str) -> None:
    """It was taken by the receiver."""
    _end(tx, item, holder, state="sent", ended_at=stamp(tx.now()), tries=item.tries + 1, last_error=None)


def put_off(tx: Tx, item: Item, holder: str, error: str, patience: timedelta, *, final: bool = False, wait: float = 0) -> bool:
    """It was not taken: try again later, at the earliest after `wait` seconds; answers whether it was given up.

    It is given up once it has waited for `patience`, or at once where trying again cannot help.
    """
    at = tx.now()
    given_up = final or at - unstamp(item.queued_at) >= patience
    if given_up:
        _end(tx, item, holder, state="failed", ended_at=stamp(at), tries=item.tries + 1, last_error=error)
    else:
        later = at + timedelta(seconds=max(wait, pause(item.tries)))
        _end(tx, item, holder, next_try_at=stamp(later), tries=item.tries + 1, last_error=error)
    return given_up


def pause(tries: int) -> float:
    """Seconds before the next try after `tries` earlier failures; at random, lest all come back at the same moment."""
    return min(LONGEST, FIRST * float(1 << min(tries, 20))) * random.uniform(0.75, 1.25)


def _end(tx: Tx, item: Item, holder: str, **values: Any) -> None:
    mine = update(outbox).where(outbox.c.place == item.place, outbox.c.state == "waiting", outbox.c.lease == holder)
    tx.execute(mine.values(lease=None, lease_until=None, **values))


def release(tx: Tx, holder: str) -> None:
    """Give back what was claimed and not ended, at an orderly stop."""
    mine = update(outbox).where(outbox.c.state == "waiting", outbox.c.lease == holder)
    tx.execute(mine.values(lease=None, lease_until=None))


def abandon(tx: Tx, target: str, error: str) -> int:
    """Give up everything that waits for a target, as when it was switched off; answers how many."""
    all_of = update(outbox).where(outbox.c.target == target, outbox.c.state == "waiting")
    gone = all_of.values(state="failed", ended_at=stamp(tx.now()), last_error=error, lease=None, lease_until=None)
    return int(tx.execute(gone).rowcount)


def failed_since(connection: Connection, target: str, since: datetime) -> int:
    """How many items of a target were given up since then."""
    where = (outbox.c.state == "failed", outbox.c.ended_at >= stamp(since), outbox.c.target == target)
    return int(connection.execute(select(func.count()).where(*where)).scalar_one())


def replay(tx: Tx, item_id: str) -> dict[str, Any]:
    """Send an item again that was sent or given up, under its own id. Raises NotFound; Conflict where it waits anyway."""
    row = tx.execute(select(outbox).where(outbox.c.id == item_id)).mappings().first()
    if row is None:
        raise NotFound("no such item in the outbox", field="/item_id")
    if row["state"] == "waiting":
        raise Conflict("this item waits to be sent anyway", field="/item_id")
    again = _again(tx)
    tx.execute(update(outbox).where(outbox.c.id == item_id).values(**again))
    return shown(dict(row) | again)


def replay_since(tx: Tx, since: datetime, state: Ended, target: str | None) -> int:
    """Send everything again that was written since then and has this state; answers how many items that are."""
    chosen = update(outbox).where(outbox.c.created_at >= stamp(since), outbox.c.state == state)
    if target is not None:
        chosen = chosen.where(outbox.c.target == target)
    return int(tx.execute(chosen.values(**_again(tx))).rowcount)


def _again(tx: Tx) -> dict[str, Any]:
    at = stamp(tx.now())
    return {"state": "waiting", "queued_at": at, "next_try_at": at, "tries": 0, "ended_at": None, "last_error": None}


class Sought(NamedTuple):
    """Which items: of a state, of a target, before a place; at most `limit`."""

    state: State | None = None
    target: str | None = None
    before: int | None = None
    limit: int = 100


def page(connection: Connection, sought: Sought) -> list[dict[str, Any]]:
    """Items, the newest first."""
    query = select(outbox).order_by(outbox.c.place.desc()).limit(sought.limit)
    if sought.state is not None:
        query = query.where(outbox.c.state == sought.state)
    if sought.target is not None:
        query = query.where(outbox.c.target == sought.target)
    if sought.before is not None:
        query = query.where(outbox.c.place < sought.before)
    return [shown(dict(row)) for row in connection.execute(query).mappings()]


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """An item without what is only for the sender."""
    return {name: value for name, value in row.items() if name not in ("lease", "lease_until", "queued_at")}


def counts(connection: Connection) -> dict[str, float]:
    """How many items wait, and how many were given up and are still kept."""
    given_up = (outbox.c.state == "failed", outbox.c.ended_at.is_not(None))
    wanted: dict[str, tuple[Any, ...]] = {"waiting": (_WAITING,), "failed": given_up}
    counted = {name: select(func.count()).select_from(outbox).where(*where) for name, where in wanted.items()}
    return {name: float(connection.execute(query).scalar_one()) for name, query in counted.items()}


def forget(tx: Tx, most: int) -> int:
    """Delete what ended long ago, at most so many of each kind; answers how many that were."""
    gone = 0
    for state, kept in KEPT.items():
        old = select(outbox.c.place).where(outbox.c.state == state, outbox.c.ended_at < stamp(tx.now() - kept)).limit(most)
        gone += int(tx.execute(delete(outbox).where(outbox.c.place.in_(old))).rowcount)
    return gone
