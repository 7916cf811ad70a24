"""HTTP of notices: one's own, the rules of who is told what, the addresses that mails go to, the weekly digests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, FastAPI, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.case import book, digest, notices
from services.case.api import STAFF, Here
from services.case.book import Address
from services.case.digest import Digest
from services.case.reminders import Reminders
from services.case.telling import SUGGESTED, Event, Rules
from services.case.texts import CODE_PATTERN
from shared import audit
from shared.auth import Caller, allow
from shared.database import Tx, reading
from shared.web import Runtime, refuse_unknown


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Tells in time what is due, and makes the digest of the week."""
    here: Runtime = app.state.runtime
    here.loops.start("reminders", Reminders(here.engine, here.writer).turn)
    here.loops.start("digest", Digest(here.engine, here.writer, here.node.tz).turn)
    yield
    here.loops.drop("reminders")
    here.loops.drop("digest")


T = TypeVar("T")
router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)
EventId = Annotated[str, Field(max_length=40, pattern=r"^[0-9A-Za-z-]+$")]
Account = Annotated[str, Path(max_length=80, pattern=CODE_PATTERN, examples=["desk-1"])]


class Notice(BaseModel):
    """Something that its reader wants to be told; `detail` holds codes and instants."""

    event: str = Field(description="names the notice")
    case_id: str | None
    kind: Event | Literal["digest", "webhook_off", "undelivered"]
    at: str
    actor: str = Field(description="account that did it; `reporter`, or `node` for its own timers")
    detail: dict[str, Any]
    read_at: str | None


class Notices(BaseModel):
    """One's own notices, the newest first; `unread` counts all of them, up to a hundred."""

    items: list[Notice]
    next: str | None = Field(description="`before` of the following page, null on the last")
    unread: int


class Reading(BaseModel):
    """Which notices somebody has read; null means all."""

    model_config = ConfigDict(extra="forbid", strict=True)
    events: list[EventId] | None = Field(None, max_length=200)


class Marked(BaseModel):
    """How many notices were new."""

    read: int


class RulesNow(BaseModel):
    """The rules in force, how often they were changed, and a set to begin with, of which nothing holds by itself."""

    edition: int
    rules: Rules
    suggested: Rules


class NewRules(BaseModel):
    """A whole set of rules; `edition` is the one that its author saw."""

    model_config = ConfigDict(extra="forbid", strict=True)
    edition: int = Field(ge=0, le=2**31 - 2)
    rules: Rules


class Entered(Address):
    """Where an account gets mail."""

    account: str


class Removed(BaseModel):
    """What was removed."""

    removed: str


class Weekly(BaseModel):
    """The digest of one week for a role or a department."""

    week: str
    target: str
    figures: dict[str, Any] = Field(description="opened, closed, open, overdue, supervised: counts; oldest: the oldest open case")
    made_at: str


@router.get("/notices", response_model=Notices)
def mine(
    request: Request, here: Here, caller: Annotated[Caller, allow(*STAFF)],
    unread: bool = False,
    before: Annotated[str | None, Query(max_length=40, pattern=r"^[0-9A-Za-z-]+$")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:  # fmt: skip
    """What the caller wants to be told: by account, by his roles and by his departments; each happening once."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        items, following = notices.mine(connection, caller, unread=unread, before=before, limit=limit)
        return {"items": items, "next": following, "unread": notices.count_unread(connection, caller)}


@router.post("/notices/read", response_model=Marked)
async def mark(body: Reading, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> dict[str, int]:
    """Note that the caller has read some of his notices, or all. Others who share a role with him keep theirs unread."""
    return {"read": await _written(here, lambda tx: notices.mark_read(tx, caller, body.events))}


@router.get("/notices/rules", response_model=RulesNow)
def rules_now(here: Here, _: Annotated[Caller, allow("administrator", "auditor")]) -> dict[str, Any]:
    """Who is told what."""
    with reading(here.engine) as connection:
        edition, held = book.current(connection)
        return {"edition": edition, "rules": held, "suggested": SUGGESTED}


@router.put("/notices/rules", response_model=RulesNow)
async def put_rules(body: NewRules, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Put a set of rules in force, for everything that happens from now on."""

    def work(tx: Tx) -> dict[str, Any]:
        edition = book.put_rules(tx, body.rules, body.edition, caller.name)
        audit.note(tx, caller.name, caller.roles, "change", "notice_rules", str(edition))
        return {"edition": edition, "rules": body.rules, "suggested": SUGGESTED}

    return await _written(here, work)


@router.get("/notices/addresses", response_model=list[Entered])
def addresses(here: Here, _: Annotated[Caller, allow("administrator")]) -> list[dict[str, Any]]:
    """Which accounts of the staff get mail, where and about what."""
    with reading(here.engine) as connection:
        return [{"account": account, **found.model_dump()} for account, found in book.listed(connection)]


@router.put("/notices/addresses/{account}", response_model=Entered)
async def put_address(
    account: Account, body: Address, here: Here, caller: Annotated[Caller, allow("administrator")]
) -> dict[str, Any]:
    """Enter where an account gets mail. What waits to be sent goes to the address that is entered then."""

    def work(tx: Tx) -> dict[str, Any]:
        book.put_address(tx, account, body, caller.name)
        audit.note(tx, caller.name, caller.roles, "change", "address", account)
        return {"account": account, **body.model_dump()}

    return await _written(here, work)


@router.delete("/notices/addresses/{account}", response_model=Removed)
async def remove_address(account: Account, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Send an account no mail any more."""

    def work(tx: Tx) -> dict[str, Any]:
        book.remove_address(tx, account)
        audit.note(tx, caller.name, caller.roles, "remove", "address", account)
        return {"removed": account}

    return await _written(here, work)


@router.get("/digests", response_model=list[Weekly])
def digests(here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> list[dict[str, Any]]:
    """The weekly digests that are for the caller, the newest first."""
    with reading(here.engine) as connection:
        return digest.mine(connection, caller)


async def _written(here: Runtime, work: Callable[[Tx], T]) -> T:
    return await asyncio.wrap_future(here.writer.submit(work))
