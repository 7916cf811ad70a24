"""Reporters 举报人: what they left, sealed in a table of its own; found by case or tracking code, never by person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    LargeBinary,
    String,
    Table,
    bindparam,
    false,
    insert,
    select,
    text,
    update,
)

from services.case.tables import INSTANT, cases, metadata, steps
from services.case.texts import Plain
from services.case.tracking import draw, hashed
from shared import audit
from shared.auth import Caller
from shared.clock import stamp, unstamp
from shared.database import Tx
from shared.errors import Conflict, Invalid, NotFound
from shared.vault import Sealed, Unreadable, Vault, bucket_of

_UNSWEPT = text("wrapped IS NULL AND bucket IS NOT NULL")

reporters = Table(
    "case_reporters",
    metadata,
    Column("case_id", String(40), primary_key=True),
    Column("tracking_hash", String(64), nullable=False, unique=True),
    Column("kept_at", INSTANT, nullable=False),
    Column("bucket", String(7)),
    Column("wrapped", LargeBinary),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    # The last day on which it may be kept.
    Column("expires_on", String(10)),
    Column("erased_at", INSTANT),
    Column("lost", Boolean, nullable=False, server_default=false()),
    Index("case_reporters_expires", "expires_on"),
    Index("case_reporters_bucket", "bucket"),
    Index("case_reporters_unswept", "case_id", sqlite_where=_UNSWEPT, postgresql_where=_UNSWEPT),
)
"""One row for each report that has a tracking code. Of an erased record the month stays until the files were swept after it."""

additions = Table(
    "case_report_additions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("case_id", String(40), nullable=False),
    Column("text", String(2000), nullable=False),
    Column("at", INSTANT, nullable=False),
    Index("case_report_additions_case", "case_id", "at"),
)
"""What a reporter wrote later; stays at this node, as the report's own text does."""

ADDITIONS = 20
OPENERS = frozenset({"acceptor", "shift_supervisor", "administrator"})
"""Who may open what a reporter left 受理员、值班长、管理员; the departments see the problem and never the reporter."""

_ADD, _ADD_TEXT = insert(reporters), insert(additions)
_OF = select(reporters).where(reporters.c.case_id == bindparam("case"))
_BY_CODE = select(reporters.c.case_id).where(reporters.c.tracking_hash == bindparam("hash"))
_CASE = select(cases).where(cases.c.id == bindparam("case"))
_STEPS = select(steps.c.target, steps.c.at).where(steps.c.case_id == bindparam("case")).order_by(steps.c.version)
_TEXTS = select(additions.c.at, additions.c.text).where(additions.c.case_id == bindparam("case")).order_by(additions.c.at)
MAIL = r"[^@\s<>\x00-\x1f\x7f-\x9f]"
EMPTY = {"wrapped": None, "nonce": None, "ciphertext": None, "expires_on": None}


class Contact(BaseModel):
    """What a reporter may leave, all of it optional and all of it sealed together."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: Plain(80, 1) | None = None  # type: ignore[valid-type]
    phone: str | None = Field(None, max_length=24, pattern=r"^\+?[0-9][0-9 ()-]{3,22}$", examples=["+86 991 000 0000"])
    email: str | None = Field(None, max_length=254, pattern=f"^{MAIL}{{1,64}}@{MAIL}{{1,189}}$", examples=["a@example.org"])
    note: Plain(500, 1) | None = Field(None, description="such as when to call")  # type: ignore[valid-type]
    wants_reply: bool = False
    language: str = Field("zh", max_length=20, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")

    @model_validator(mode="after")
    def _reachable(self) -> Contact:
        if self.wants_reply and not (self.phone or self.email):
            raise ValueError("whoever wants a reply leaves a phone number or a mail address")
        return self

    @property
    def empty(self) -> bool:
        return not (self.name or self.phone or self.email or self.note)


@dataclass(frozen=True)
class Custody:
    """How a node keeps what reporters left: where the keys are, for how many days after the case's end, in which zone."""

    vault: Vault
    days: int
    zone: ZoneInfo

    def day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()


def keep(tx: Tx, custody: Custody, case_id: str, contact: Contact | None, by: Caller | None = None) -> str:
    """Give the reporter of a case a tracking code and seal what he left; the answer is the only time that it can be read.

    Raises NotFound, Conflict where the case has a reporter already.
    """
    if tx.execute(_CASE, {"case": case_id}).first() is None:
        raise NotFound("no such case here", field="/case")
    if tx.execute(_OF, {"case": case_id}).first() is not None:
        raise Conflict("this report has a tracking code already", field="/case")
    code = draw()
    row = {"case_id": case_id, "tracking_hash": code.hash, "kept_at": stamp(tx.now()), "bucket": None, **EMPTY}
    if contact is not None and not contact.empty:
        # The least that it can be: nobody knows yet when the case will end. The erasure looks again on that day.
        expires = custody.day(tx.now()) + timedelta(days=custody.days)
        sealed = custody.vault.seal(case_id, contact.model_dump_json(exclude_none=True).encode(), expires)
        row |= {**sealed._asdict(), "expires_on": expires.isoformat()}
    tx.execute(_ADD, row)
    if by is not None:
        audit.note(tx, by.name, by.roles, "keep_contact", "reporter", case_id)
    return code.shown


def renew(tx: Tx, case_id: str) -> str:
    """Another tracking code in the place of one whose answer was lost on the way; the old one is good no longer."""
    code = draw()
    tx.execute(update(reporters).where(reporters.c.case_id == case_id).values(tracking_hash=code.hash))
    return code.shown


def case_of(connection: Connection, code: str) -> str:
    """The case that a tracking code belongs to. Raises NotFound, always the same, for anything else."""
    found = connection.execute(_BY_CODE, {"hash": hashed(code)}).scalar()
    if found is None:
        raise NotFound("no report has this tracking code")
    return str(found)


def state(connection: Connection, case_id: str) -> dict[str, Any]:
    """What is kept of the reporter of a case, without opening it."""
    row = connection.execute(_OF, {"case": case_id}).mappings().first()
    if row is None:
        return {"code": False, "contact": False, "expires_on": None, "erased_at": None, "lost": False}
    kept = {"code": True, "contact": row["wrapped"] is not None, "expires_on": row["expires_on"]}
    return kept | {"erased_at": row["erased_at"], "lost": bool(row["lost"])}


def read(tx: Tx, custody: Custody, case_id: str, caller: Caller, reason: str) -> dict[str, Any]:
    """Open what a reporter left. The audit log has it in the same transaction, which is durable before anybody is answered.

    Raises NotFound where nothing is kept, or not any more.
    """
    audit.note(tx, caller.name, caller.roles, "open_contact", "reporter", case_id, reason=reason)
    row = _kept(tx, case_id)
    try:
        return Contact.model_validate_json(custody.vault.open(case_id, _sealed(row))).model_dump()
    except Unreadable as error:
        raise NotFound(f"what the reporter left cannot be opened any more: {error}") from error


def prolong(tx: Tx, custody: Custody, case_id: str, until: date, caller: Caller, reason: str) -> str:
    """Keep a reporter's data until a later day, such as while an objection is open; answers the day."""
    row, today = _kept(tx, case_id), custody.day(tx.now())
    if not today <= until <= today + timedelta(days=366):
        raise Invalid("a day from today on and within a year", field="/until")
    if until.isoformat() <= row["expires_on"]:
        raise Invalid(f"it is kept until {row['expires_on']} already", field="/until")
    audit.note(tx, caller.name, caller.roles, "prolong_contact", "reporter", case_id, reason=reason)
    _move(tx, custody, row, until)
    return until.isoformat()


def erase(tx: Tx, case_ids: Iterable[str], actor: str, roles: Iterable[str], reason: str | None = None) -> int:
    """Erase for ever what reporters left, now; answers of how many something was there. Their tracking codes stay good."""
    erased = 0
    for case_id in case_ids:
        row = tx.execute(_OF, {"case": case_id}).mappings().first()
        if row is None or row["wrapped"] is None:
            continue
        _blank(tx, row)
        tx.execute(update(reporters).where(reporters.c.case_id == case_id).values(erased_at=stamp(tx.now()), **EMPTY))
        audit.note(tx, actor, roles, "erase_contact", "reporter", case_id, reason=reason)
        erased += 1
    return erased


def _blank(tx: Tx, row: Mapping[str, Any]) -> None:
    """Overwrite what is there where it stands, before it is let go, so that no page of the file keeps it."""
    zeros = {name: bytes(len(row[name])) for name in ("wrapped", "nonce", "ciphertext")}
    tx.execute(update(reporters).where(reporters.c.case_id == row["case_id"]).values(**zeros))


def look_again(tx: Tx, custody: Custody, objections: int, limit: int = 200) -> int:
    """Take up to `limit` records whose day has come: prolong those whose case is not over long enough, erase the others.

    A case is over long enough `custody.days` after its end and not before its reporter could object, `objections` days after it.
    Answers how many were taken.
    """
    today = custody.day(tx.now())
    due = select(reporters).where(reporters.c.expires_on < today.isoformat()).order_by(reporters.c.expires_on).limit(limit)
    rows = [dict(r) for r in tx.execute(due).mappings()]
    for row in rows:
        ended = _survivor(tx.connection, row["case_id"])["ended_at"]
        last = custody.day(unstamp(ended) if ended else tx.now()) + timedelta(days=max(custody.days, objections))
        if last < today:
            erase(tx, [row["case_id"]], "node", ["timer"])
        else:
            _move(tx, custody, row, last)
    return len(rows)


def _move(tx: Tx, custody: Custody, row: Mapping[str, Any], until: date) -> None:
    """Let a record expire on another day; one whose key is gone is marked as lost, since nobody can do anything for it."""
    values: dict[str, Any] = {"expires_on": until.isoformat()}
    if bucket_of(until) != row["bucket"]:
        try:
            longer = custody.vault.prolong(row["case_id"], _sealed(row), until)
            values |= {"bucket": longer.bucket, "wrapped": longer.wrapped}
        except Unreadable:
            values = EMPTY | {"lost": True}
    tx.execute(update(reporters).where(reporters.c.case_id == row["case_id"]).values(**values))


def _kept(tx: Tx, case_id: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] | None = tx.execute(_OF, {"case": case_id}).mappings().first()
    if row is None or row["wrapped"] is None:
        when = f": it was erased on {row['erased_at'][:10]}" if row is not None and row["erased_at"] else ""
        raise NotFound(f"nothing of the reporter of this case is kept{when}", field="/case")
    return row


def _sealed(row: Mapping[str, Any]) -> Sealed:
    return Sealed(row["bucket"], bytes(row["wrapped"]), bytes(row["nonce"]), bytes(row["ciphertext"]))


def _survivor(connection: Connection, case_id: str) -> dict[str, Any]:
    """The case itself, or the one that it was merged into, and so on."""
    row = dict(connection.execute(_CASE, {"case": case_id}).mappings().one())
    seen = {case_id}
    while row["merged_into"] and row["merged_into"] not in seen:
        seen.add(row["merged_into"])
        row = dict(connection.execute(_CASE, {"case": row["merged_into"]}).mappings().one())
    return row


def followed(connection: Connection, case_id: str) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """(case, its steps, the case that it was merged into or itself) for whoever has the tracking code."""
    case = dict(connection.execute(_CASE, {"case": case_id}).mappings().one())
    taken = [dict(r) for r in connection.execute(_STEPS, {"case": case_id}).mappings()]
    return case, taken, _survivor(connection, case_id)


def add(tx: Tx, case_id: str, written: str) -> dict[str, Any]:
    """Keep what a reporter wrote later. Raises Conflict for a case that is over, or that has been added to often enough."""
    if _survivor(tx.connection, case_id)["ended_at"]:
        raise Conflict("this case is over: nothing can be added any more", field="/text")
    if len(added(tx.connection, case_id)) >= ADDITIONS:
        raise Conflict(f"at most {ADDITIONS} additions are kept of a report", field="/text")
    row = {"id": tx.new_id(), "case_id": case_id, "text": written, "at": stamp(tx.now())}
    tx.execute(_ADD_TEXT, row)
    return {"at": row["at"], "text": written}


def added(connection: Connection, case_id: str) -> list[dict[str, Any]]:
    """What a reporter wrote later, oldest first."""
    return [dict(r) for r in connection.execute(_TEXTS, {"case": case_id}).mappings()]
