"""Events that a county's own platform pushes: read, believed once, refused with a reason, kept for correction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import bindparam, delete, insert, select, update

from contracts.base import Instant
from contracts.case import Channel, Provenance
from services.case import domain
from services.case.commands import Report, Routing, act, report
from services.case.tables import cases, platform_cases, pushed, quarantine
from services.case.texts import Plain
from shared.auth import Caller
from shared.clock import stamp
from shared.database import Tx
from shared.errors import Conflict, Forbidden, Invalid, NotFound, SanjiError

NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
"""The character U+0000 as JSON writes it, and not a backslash that somebody wrote before `u0000`."""
MAX_DEPTH = 8
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
ROLE = frozenset({"integrator"})


def _plausible(at: datetime) -> datetime:
    if at < EARLIEST:
        raise ValueError(f"lies before {EARLIEST:%Y}")
    return at


Moment = Annotated[Instant, AfterValidator(_plausible)]
"""An instant at which somebody can have reported or done something."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reported(_Strict):
    category: str = Field(max_length=20)
    lon: float = Field(ge=-180, le=180, strict=True)
    lat: float = Field(ge=-90, le=90, strict=True)
    channel: Channel = "platform"
    provenance: Provenance = "live"
    dataset: str | None = Field(None, max_length=80, pattern=r"^[0-9A-Za-z._:-]+$")
    text: Plain(2000) | None = None  # type: ignore[valid-type]


class Filed(_Strict):
    due: Moment | None = None


class Dispatched(_Strict):
    department: str = Field(max_length=80, pattern=r"^[0-9A-Za-z._:-]+$")


class Refused(_Strict):
    reason: Literal["not_found", "out_of_scope", "duplicate", "transferred", "other"]


class Nothing(_Strict):
    pass


class Event(BaseModel):
    """A CloudEvent 1.0 as a platform sends it; unknown extension attributes are allowed and ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    specversion: Literal["1.0"]
    id: str = Field(min_length=1, max_length=120)
    source: str = Field(min_length=1, max_length=200)
    type: str = Field(max_length=80)
    time: Moment
    subject: str = Field(min_length=1, max_length=120, description="the platform's own id of the case")
    data: dict[str, Any] = {}
    data_base64: None = Field(None, description="not taken: what is in it would go unread")


PREFIX = "cn.sanji.platform.case."
SHAPES: dict[str, tuple[type[_Strict], domain.Action | None]] = {
    f"{PREFIX}reported.v1": (Reported, None),
    f"{PREFIX}filed.v1": (Filed, "file"),
    f"{PREFIX}refused.v1": (Refused, "refuse"),
    f"{PREFIX}dispatched.v1": (Dispatched, "dispatch"),
    f"{PREFIX}handled.v1": (Nothing, "handle"),
    f"{PREFIX}reworked.v1": (Nothing, "rework"),
    f"{PREFIX}closed.v1": (Nothing, "close"),
}


_KNOWN = select(pushed).where(pushed.c.source == bindparam("source"), pushed.c.id == bindparam("id"))
_CASE = select(platform_cases.c.case_id).where(
    platform_cases.c.source == bindparam("source"), platform_cases.c.subject == bindparam("subject")
)
_ADD, _ADD_CASE = insert(pushed), insert(platform_cases)
_RELEASE = (
    update(quarantine)
    .where(quarantine.c.source == bindparam("of"), quarantine.c.event_id == bindparam("named"))
    .where(quarantine.c.replayed_at.is_(None))
    .values(replayed_at=bindparam("at"))
)


def take(tx: Tx, around: Routing, platform: str, raw: Any) -> dict[str, Any]:
    """Take one event: {id, outcome: accepted | duplicate | refused, case?, field?, reason?}. Never raises for a bad item.

    A refused item is kept in the quarantine in this same transaction and leaves nothing else behind.
    """
    result = _tried(tx, around, platform, raw)
    if result["outcome"] == "refused":
        kept = _fit(raw)
        named = isinstance(kept, dict) and isinstance(kept.get("id"), str) and kept["id"]
        event_id = kept["id"][:120] if named else f"unnamed-{tx.new_id()}"
        tx.execute(delete(quarantine).where(quarantine.c.source == platform, quarantine.c.event_id == event_id))
        row = {"id": tx.new_id(), "source": platform, "event_id": event_id, "received_at": stamp(tx.now())}
        tx.execute(insert(quarantine), row | _why(result) | {"event": kept})
    return result


def again(tx: Tx, around: Routing, item: str, raw: Any = None) -> dict[str, Any]:
    """Try what waits as `item` again, as it is or corrected to `raw`; answers as `take` does. Raises NotFound.

    Once it is taken the item is done, whatever id the correction gave it; refused again it stays the same item, as last tried.
    """
    row = tx.execute(select(quarantine).where(quarantine.c.id == item)).mappings().first()
    if row is None:
        raise NotFound("no such item in the quarantine", field="/item")
    raw = row["event"] if raw is None else raw
    result = _tried(tx, around, row["source"], raw)
    refused = result["outcome"] == "refused"
    values = _why(result) | {"event": _fit(raw)} if refused else {"replayed_at": stamp(tx.now())}
    tx.execute(update(quarantine).where(quarantine.c.id == item, quarantine.c.replayed_at.is_(None)).values(**values))
    return result


def _tried(tx: Tx, around: Routing, platform: str, raw: Any) -> dict[str, Any]:
    """What becomes of an event; one that is refused leaves nothing behind."""
    name = raw.get("id") if isinstance(raw, dict) else None
    # Anything else would be sent back as it came, however deep it is nested.
    name = name if isinstance(name, str | int | float) else None
    try:
        with tx.attempt():
            event = _parse(raw)
            if event.source != platform:
                raise Forbidden(f"this key may only send events of {platform}", field="/source")
            known = _known(tx, event, raw)
            case_id = known or _apply(tx, around, event, raw)
    except SanjiError as error:
        # A field may be a name that the sender made up, as long as he liked.
        return {"id": name, "outcome": "refused", "field": error.field and error.field[:200], "reason": error.detail[:500]}
    if known is None:
        tx.execute(_RELEASE, {"of": event.source, "named": event.id, "at": stamp(tx.now())})
    return {"id": name, "outcome": "duplicate" if known else "accepted", "case": case_id}


def _parse(raw: Any) -> Event:
    if depth(raw) > MAX_DEPTH:
        raise Invalid(f"nested deeper than {MAX_DEPTH}", field="/")
    if NUL.search(orjson.dumps(raw)):
        raise Invalid("a text holds the character U+0000, which databases do not keep", field="/")
    try:
        event = Event.model_validate(raw)
        if event.type not in SHAPES:
            raise Invalid(f"no such event type; known are: {', '.join(SHAPES)}", field="/type")
        return event
    except ValidationError as error:
        raise _first(error, "") from None


def depth(value: Any) -> int:
    """How many lists and objects lie in one another, counted no further than it matters."""
    deepest, waiting = 0, [(value, 1)]
    while waiting and deepest <= MAX_DEPTH:
        inner, level = waiting.pop()
        if isinstance(inner, dict | list):
            deepest = max(deepest, level)
            waiting += [(v, level + 1) for v in (inner.values() if isinstance(inner, dict) else inner)]
    return deepest


def _first(error: ValidationError, under: str) -> Invalid:
    first = error.errors()[0]
    return Invalid(first["msg"].removeprefix("Value error, "), field=under + "/" + "/".join(map(str, first["loc"])))


def _digest(raw: Any) -> bytes:
    return hashlib.sha256(orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)).digest()


def _known(tx: Tx, event: Event, raw: Any) -> str | None:
    row = tx.execute(_KNOWN, {"source": event.source, "id": event.id}).first()
    if row is None:
        return None
    if bytes(row.digest) != _digest(raw):
        raise Conflict("this id was used for an event with other content", field="/id")
    return str(row.case_id)


def _apply(tx: Tx, around: Routing, event: Event, raw: Any) -> str:
    shape, action = SHAPES[event.type]
    try:
        data = shape.model_validate(event.data)
    except ValidationError as error:
        raise _first(error, "/data") from None
    case_id: str | None = tx.execute(_CASE, {"source": event.source, "subject": event.subject}).scalar()
    if isinstance(data, Reported):
        if case_id:
            raise Conflict("this case was reported before, by another event", field="/subject")
        with _named({"/category": "/data/category", "/lon": "/data/lon"}):
            case_id = str(report(tx, around, Report(**data.model_dump(), clocked=False), event.time, _platform(event))["id"])
        tx.execute(_ADD_CASE, {"source": event.source, "subject": event.subject, "case_id": case_id})
    elif case_id is None or action is None:
        raise Conflict("this case was never reported here; send its report first", field="/subject")
    else:
        with _named({"/action": "/type"}):
            _step(tx, around, case_id, action, event, data.model_dump())
    row = {"source": event.source, "id": event.id, "digest": _digest(raw), "case_id": case_id}
    tx.execute(_ADD, row)
    return case_id


@contextmanager
def _named(fields: Mapping[str, str]) -> Iterator[None]:
    """What a use case calls by its own names is called as the event has it."""
    try:
        yield
    except SanjiError as error:
        error.field = fields.get(error.field or "", error.field)
        raise


def _platform(event: Event) -> Caller:
    return Caller(event.source[:120], ROLE, event.source)


def _step(tx: Tx, around: Routing, case_id: str, action: domain.Action, event: Event, given: dict[str, Any]) -> None:
    """Take the step; a platform that only tells the end has the steps before it stated at the same moment."""
    path: list[domain.Action] = [action]
    if action == "close":
        state = tx.execute(select(cases.c.state).where(cases.c.id == case_id)).scalar()
        before: dict[str, list[domain.Action]] = {"filed": ["dispatch", "handle"], "dispatched": ["handle"]}
        path = [*before.get(state, []), *path]
    for step in path:
        act(tx, around, case_id, step, ROLE, at=event.time, given={"department": "unnamed", **given}, who=_platform(event))


def _fit(raw: Any) -> Any:
    """A refused event as it can be kept."""
    if depth(raw) > MAX_DEPTH:
        # Too deep for any reader's stack: only what lies at its surface is kept.
        raw = {k: v for k, v in raw.items() if not isinstance(v, dict | list)} if isinstance(raw, dict) else None
    return orjson.loads(NUL.sub(rb"\1\\ufffd", orjson.dumps(raw)))


def _why(result: dict[str, Any]) -> dict[str, Any]:
    return {"field": result["field"], "reason": result["reason"]}
