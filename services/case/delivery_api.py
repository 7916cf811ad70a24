"""HTTP of what goes out: webhooks of other systems and their secrets, the outbox and sending again; and the loop that sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.base import Instant
from services.case import book, outbox, reach, webhooks
from services.case.api import Here
from services.case.delivery import Delivery
from services.case.outbox import Ended, Kind, Sought, State
from services.case.telling import Event
from services.case.texts import CODE_PATTERN
from services.case.webhooks import Signer, Subscription
from shared import audit
from shared.auth import Caller, allow
from shared.clock import stamp
from shared.database import Tx, reading
from shared.errors import Invalid
from shared.web import Runtime, refuse_unknown


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Sends what waits, as long as the process runs."""
    here: Runtime = app.state.runtime
    names = here.extra["areas"].names
    loop = Delivery(here.engine, here.writer, lambda: here.node, here.extra["around"], names, signer(here))
    here.measures.append(loop.measure)
    here.loops.start("outbox", loop.turn)
    yield
    here.loops.drop("outbox")
    await loop.stop()


def signer(here: Runtime) -> Signer:
    """Signs with the key of this node."""
    return Signer(here.node.secrets / "webhooks.key")


T = TypeVar("T")
router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)
Admin = Annotated[Caller, allow("administrator")]
WebhookId = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z-]+$", examples=["0196a3c4-7f00-7000-8000-000000000000"])]
ItemId = Annotated[str, Path(max_length=60, pattern=r"^[0-9A-Za-z_-]+$", examples=["msg_0196a3c4-7f00-7000-8000-000000000000"])]
SECRET = {"Cache-Control": "no-store"}


class Webhook(BaseModel):
    """An endpoint that is called, and how that went lately."""

    id: str
    url: str
    note: str
    events: list[Event]
    categories: list[str]
    departments: list[str]
    enabled: bool
    made_at: str
    made_by: str
    old_until: str | None = Field(description="until when calls are also signed with the secret before the last change")
    delivered_at: str | None
    failing_since: str | None
    disabled_why: str | None = Field(description="why it was switched off by itself")


class Fresh(Webhook):
    """An endpoint with its secret, which is shown this once."""

    secret: str = Field(description="for the Standard Webhooks scheme: `whsec_` and base64")


class Rotation(BaseModel):
    """For how many hours the secret before stays valid beside the new one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    keep_hours: int = Field(24, ge=0, le=168)


class Item(BaseModel):
    """A mail or a call: codes only. `last_error` is a code of ours; what the other side said is not kept."""

    place: int
    id: str = Field(description="the same at every attempt")
    kind: Kind
    target: str
    payload: dict[str, Any]
    created_at: str
    next_try_at: str
    tries: int
    state: State
    ended_at: str | None
    last_error: str | None


class Items(BaseModel):
    """A page of the outbox, the newest first; `next` is `before` of the following page, null on the last."""

    items: list[Item]
    next: int | None


class Again(BaseModel):
    """Which items to send again: written since then, with this state, to one target or to all."""

    model_config = ConfigDict(extra="forbid", strict=True)
    since: Instant
    state: Ended = "failed"
    target: str | None = Field(None, max_length=140, pattern=CODE_PATTERN)


class Queued(BaseModel):
    """How many items wait again, or the one that does."""

    queued: int


class Removed(BaseModel):
    """What was removed."""

    removed: str


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in Webhook.model_fields}


@router.get("/webhooks", response_model=list[Webhook])
def every(here: Here, _: Annotated[Caller, allow("administrator", "auditor")]) -> list[dict[str, Any]]:
    """All endpoints that are called."""
    with reading(here.engine) as connection:
        return [shown(row) for row in webhooks.every(connection)]


@router.post("/webhooks", status_code=201, response_model=Fresh)
async def register(body: Subscription, here: Here, caller: Admin, response: Response) -> dict[str, Any]:
    """Have an endpoint called when something happens. Its address is checked now and again before each call."""
    await _reachable(here, body.url)

    def work(tx: Tx) -> dict[str, Any]:
        row = webhooks.register(tx, body, caller.name)
        return _noted(tx, caller, "register", row)

    response.headers.update(SECRET)
    row = await _written(here, work)
    return shown(row) | {"secret": signer(here).secret(row)}


@router.put("/webhooks/{webhook_id}", response_model=Webhook)
async def change(webhook_id: WebhookId, body: Subscription, here: Here, caller: Admin) -> dict[str, Any]:
    """Change what an endpoint is called for, or where it is; switch it off or on again."""
    await _reachable(here, body.url)
    return shown(await _written(here, lambda tx: _noted(tx, caller, "change", webhooks.change(tx, webhook_id, body))))


@router.delete("/webhooks/{webhook_id}", response_model=Removed)
async def remove(webhook_id: WebhookId, here: Here, caller: Admin) -> dict[str, Any]:
    """Call an endpoint no more; what waits for it is given up."""

    def work(tx: Tx) -> dict[str, Any]:
        row = webhooks.one(tx.connection, webhook_id)
        webhooks.remove(tx, webhook_id)
        _noted(tx, caller, "remove", row)
        return {"removed": webhook_id}

    return await _written(here, work)


@router.post("/webhooks/{webhook_id}/secret", response_model=Fresh)
async def rotate(webhook_id: WebhookId, body: Rotation, here: Here, caller: Admin, response: Response) -> dict[str, Any]:
    """Change the secret. For some hours calls carry a signature with each, so that the receiver can change over in peace."""
    response.headers.update(SECRET)
    row = await _written(here, lambda tx: _noted(tx, caller, "rotate", webhooks.rotate(tx, webhook_id, body.keep_hours)))
    return shown(row) | {"secret": signer(here).secret(row)}


@router.post("/webhooks/{webhook_id}/trial", response_model=Queued)
async def trial(webhook_id: WebhookId, here: Here, caller: Admin) -> dict[str, Any]:
    """Send an endpoint a call that tells of nothing, to see whether it comes."""

    def work(tx: Tx) -> dict[str, Any]:
        _noted(tx, caller, "trial", webhooks.one(tx.connection, webhook_id))
        payload = {"type": "cn.sanji.notice.trial.v1", "time": stamp(tx.now()), "subject": "trial", "data": {"event": "trial"}}
        outbox.put(tx, [outbox.Draft("webhook", webhooks.target(webhook_id), payload)])
        return {"queued": 1}

    return await _written(here, work)


async def _reachable(here: Runtime, url: str) -> None:
    """Raises Invalid for an address that would never be called."""
    try:
        async with asyncio.timeout(reach.SECONDS):
            await reach.resolved(reach.parsed(url), here.node.outgoing.networks)
    except reach.Refused as error:
        raise Invalid(str(error), field="/url") from None
    except TimeoutError:
        raise Invalid("the host was not found in time", field="/url") from None


def _noted(tx: Tx, caller: Caller, action: str, row: dict[str, Any]) -> dict[str, Any]:
    book.changed(tx.connection)
    audit.note(tx, caller.name, caller.roles, action, "webhook", row["id"])
    return row


@router.get("/outbox", response_model=Items)
def waiting(
    request: Request, here: Here, _: Annotated[Caller, allow("administrator", "auditor")],
    state: State | None = None,
    target: Annotated[str | None, Query(max_length=140, pattern=CODE_PATTERN)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:  # fmt: skip
    """What waits to be sent, what was sent in the last month, and what was given up."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        found = outbox.page(connection, Sought(state, target, before, limit + 1))
    items = found[:limit]
    return {"items": items, "next": items[-1]["place"] if len(found) > limit else None}


@router.post("/outbox/replays", response_model=Queued)
async def replay_all(body: Again, here: Here, caller: Admin) -> dict[str, Any]:
    """Send everything again that was written since an instant and was given up, or was sent."""

    def work(tx: Tx) -> dict[str, Any]:
        count = outbox.replay_since(tx, body.since, body.state, body.target)
        detail = {"since": stamp(body.since), "state": body.state, "target": body.target, "count": count}
        audit.note(tx, caller.name, caller.roles, "replay", "outbox", "all", detail=detail)
        return {"queued": count}

    return await _written(here, work)


@router.post("/outbox/{item_id}/replay", response_model=Item)
async def replay(item_id: ItemId, here: Here, caller: Admin) -> dict[str, Any]:
    """Send one item again, under its own id."""

    def work(tx: Tx) -> dict[str, Any]:
        found = outbox.replay(tx, item_id)
        audit.note(tx, caller.name, caller.roles, "replay", "outbox", item_id)
        return found

    return await _written(here, work)


async def _written(here: Runtime, work: Callable[[Tx], T]) -> T:
    return await asyncio.wrap_future(here.writer.submit(work))
