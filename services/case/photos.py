"""Photos 照片 of cases: near, far, for reference, before and after the work; cleaned, and kept by their hash beside the database.

A photo never leaves its node and no fact tells of it. Its place and time are those of its taking; where the problem is, the case
says. Whoever cleans a photo puts it into the store first, then attaches it, and after the commit looks whether it is still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    String,
    Table,
    false,
    func,
    insert,
    select,
    update,
)

from services.case.domain import OPEN
from services.case.images import Cleaned
from services.case.intake import LEEWAY
from services.case.tables import INSTANT, cases, metadata
from shared import audit
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx, now, reading
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.loops import progressed
from shared.objects import UNUSED, Objects, sweep

Kind = Literal["near", "far", "reference", "before", "after"]
KINDS: dict[Kind, tuple[str, str]] = {
    "near": ("近景", "from near"), "far": ("远景", "from afar"), "reference": ("参照", "with something known beside it"),
    "before": ("处置前", "before the work"), "after": ("处置后", "after the work"),
}  # fmt: skip
MOST = 9
AFTERWARDS = frozenset({"closed", "appealed", "appeal_review"})
"""Ends at which a photo of the place after the work may still come: as evidence in an appeal."""
IN_THE_WORK = frozenset({"department", "handler"})
PAUSE, EVERY = 5.0, 3600.0

photos = Table(
    "case_photos",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("case_id", String(40), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("thumb", String(64), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    # Where and when it was taken, as the sender says.
    Column("lon", Float),
    Column("lat", Float),
    Column("taken_at", INSTANT),
    Column("added_at", INSTANT, nullable=False),
    Column("added_by_role", String(24), nullable=False),
    Column("withheld", Boolean, nullable=False, server_default=false()),
    Column("withheld_reason", String(500)),
    # The same picture twice is one photo, so that sending again is safe.
    Index("case_photos_same", "case_id", "kind", "digest", unique=True),
    Index("case_photos_digest", "digest"),
    Index("case_photos_thumb", "thumb"),
)
"""One row a photo. Rows are never deleted; one that must not be seen is withheld."""


class Stored(NamedTuple):
    """A cleaned picture that lies in the store: digests of it and of its thumbnail, size in pixels and in bytes."""

    digest: str
    thumb: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class Shot:
    """What the sender says of a photo: its kind, and where (WGS 84 degrees) and when it was taken, if he says it."""

    kind: Kind
    lon: float | None = None
    lat: float | None = None
    taken_at: datetime | None = None


def keep(objects: Objects, cleaned: Cleaned) -> Stored:
    """Put a cleaned picture into the store, before the commit that refers to it. Raises Busy."""
    return Stored(objects.put(cleaned.image), objects.put(cleaned.thumb), cleaned.width, cleaned.height, len(cleaned.image))


def make_sure(objects: Objects, stored: Stored, cleaned: Cleaned) -> None:
    """Call it after the commit: the sweep may have taken a picture that lay there unused until a moment ago. Raises Busy."""
    for digest, data in ((stored.digest, cleaned.image), (stored.thumb, cleaned.thumb)):
        if not objects.has(digest):
            objects.put(data)


# Use cases ----------------------------------------------------------------------------------------------------------------


def attach(
    tx: Tx, case_id: str, stored: Stored, shot: Shot, *, role: str = "reporter", actor: str = "reporter"
) -> dict[str, Any]:  # fmt: skip
    """Add a photo that lies in the store to a case; answers its row. The same picture as the same kind again is that photo.

    Raises NotFound, Invalid naming the field, Conflict naming /photos or /case.
    """
    check(tx.connection, case_id, shot, tx.now())
    same = (photos.c.case_id == case_id, photos.c.kind == shot.kind, photos.c.digest == stored.digest)
    known = tx.execute(select(photos).where(*same)).mappings().first()
    if known is not None:
        return dict(known)
    _room(tx, case_id)
    row = {
        "id": tx.new_id(), "case_id": case_id, "kind": shot.kind, **stored._asdict(), "lon": shot.lon, "lat": shot.lat,
        "taken_at": stamp(shot.taken_at) if shot.taken_at else None, "added_at": stamp(tx.now()), "added_by_role": role,
        "withheld": False, "withheld_reason": None,
    }  # fmt: skip
    tx.execute(insert(photos), row)
    audit.note(tx, actor, [role], "add_photo", "case", case_id, detail={"photo": row["id"], "kind": shot.kind})
    return row


def add(tx: Tx, case_id: str, stored: Stored, shot: Shot, who: Caller, roles: frozenset[str]) -> dict[str, Any]:
    """The same by somebody of the office with some of `roles`; who works for a department adds to its own cases only.

    Raises what `attach` does, and Forbidden.
    """
    mine = sorted(who.roles & roles)
    if set(mine) <= IN_THE_WORK and who.departments:
        case = tx.execute(select(cases.c.department, cases.c.helpers).where(cases.c.id == case_id)).first()
        if case is not None and not who.departments & {case.department, *(case.helpers or ())}:
            raise Forbidden("this case lies with another department")
    return attach(tx, case_id, stored, shot, role=mine[0], actor=who.name)


def withhold(tx: Tx, case_id: str, photo_id: str, reason: str, who: Caller, *, withheld: bool = True) -> dict[str, Any]:
    """Take a photo out of view, or bring it back; answers its row. Raises NotFound, Conflict where it is so already."""
    row = one(tx.connection, case_id, photo_id)
    if row["withheld"] == withheld:
        raise Conflict(f"the photo is {'withheld' if withheld else 'in view'} already", field="/withheld")
    if not withheld:
        _room(tx, case_id)
    changes = {"withheld": withheld, "withheld_reason": reason if withheld else None}
    tx.execute(update(photos).where(photos.c.id == photo_id).values(**changes))
    action = "withhold_photo" if withheld else "release_photo"
    audit.note(tx, who.name, who.roles, action, "case", case_id, reason=reason, detail={"photo": photo_id})
    return row | changes


def check(connection: Connection, case_id: str, shot: Shot, at: datetime) -> None:
    """Whether a case can take this photo now, as far as that is known before its pixels; what `attach` asks again.

    Raises NotFound, Invalid naming the field, Conflict naming /case.
    """
    state = connection.execute(select(cases.c.state).where(cases.c.id == case_id)).scalar()
    if state is None:
        raise NotFound("no such case here", field="/case")
    if (shot.lon is None) != (shot.lat is None):
        raise Invalid("longitude and latitude belong together", field="/lat" if shot.lat is None else "/lon")
    if shot.taken_at is not None and shot.taken_at > at + LEEWAY:
        raise Invalid("a photo cannot have been taken in the future", field="/taken_at")
    if state not in OPEN and not (shot.kind == "after" and state in AFTERWARDS):
        raise Conflict(f"a case that is {state} takes no more photos of this kind", field="/case", state=state)


def _room(tx: Tx, case_id: str) -> None:
    shown = (photos.c.case_id == case_id, photos.c.withheld.is_(False))
    if (tx.execute(select(func.count()).select_from(photos).where(*shown)).scalar() or 0) >= MOST:
        raise Conflict(f"a case has at most {MOST} photos", field="/photos")


# Questions ----------------------------------------------------------------------------------------------------------------


def listed(connection: Connection, case_id: str) -> list[dict[str, Any]]:
    """The photos of a case in the order in which they came, the withheld ones among them. Raises NotFound."""
    if connection.execute(select(cases.c.id).where(cases.c.id == case_id)).first() is None:
        raise NotFound("no such case here", field="/case")
    query = select(photos).where(photos.c.case_id == case_id).order_by(photos.c.added_at, photos.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def one(connection: Connection, case_id: str, photo_id: str) -> dict[str, Any]:
    """One photo of this case. Raises NotFound."""
    query = select(photos).where(photos.c.id == photo_id, photos.c.case_id == case_id)
    found = connection.execute(query).mappings().first()
    if found is None:
        raise NotFound("this case has no such photo", field="/photo")
    return dict(found)


def has(connection: Connection, case_id: str, kind: str) -> bool:
    """Whether a case has a photo of this kind in view; what the workflow's guard of photos asks."""
    shown = (photos.c.case_id == case_id, photos.c.kind == kind, photos.c.withheld.is_(False))
    return connection.execute(select(photos.c.id).where(*shown).limit(1)).first() is not None


# The sweep ----------------------------------------------------------------------------------------------------------------


def named_in(engine: Engine) -> Callable[[Sequence[str]], set[str]]:
    """What the sweep asks: which of some digests a row names."""

    def named(digests: Sequence[str]) -> set[str]:
        progressed()
        with reading(engine) as connection:
            return {
                digest
                for column in (photos.c.digest, photos.c.thumb)
                for digest in connection.execute(select(column).where(column.in_(digests))).scalars()
            }

    return named


@dataclass
class Sweeping:
    """The loop that deletes pictures which no row came to name: once an hour, those that are a day old."""

    engine: Engine
    objects: Objects
    swept: int = 0
    _due: float = field(default=0.0, repr=False)

    async def turn(self) -> None:
        if monotonic() >= self._due:
            self.swept += await asyncio.to_thread(sweep, self.objects, named_in(self.engine), now() - UNUSED)
            self._due = monotonic() + EVERY
        await asyncio.sleep(PAUSE)
