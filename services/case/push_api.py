"""HTTP of the push API: events of a county's own platform, and the quarantine of what was refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Annotated, Any
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict

from services.case import queries
from services.case.answers import answered
from services.case.api import Here, Id
from services.case.push import again, take
from services.case.push_answers import BODY, Outcome, Pushed, Waiting
from shared.auth import Caller, allow
from shared.database import Tx
from shared.errors import Busy, Forbidden, Invalid
from shared.web import Runtime, refuse_unknown

router = APIRouter(prefix="/api/case/v1", tags=["case"])
CHUNK = 100
"""Events of one push that share a turn of the writer, so that a large batch does not hold up everybody else."""
PATIENCE = 10.0
"""Seconds for which the rest of a push waits for room."""


def _as_json(event: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what the body's reader lets through although no JSON writes it, such as half a character."""
    try:
        orjson.dumps(event)
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return event


@router.post("/events", response_model=None, responses=answered(Pushed), openapi_extra=BODY)
async def push(
    request: Request, here: Here, caller: Annotated[Caller, allow("integrator")]
) -> Response:
    """Take CloudEvents (structured, binary, batch, or one a line as NDJSON); the answer says what became of each."""
    if caller.platform is None:
        raise Invalid("events are pushed with an API key of a platform", field="/authorization")
    platform = caller.platform
    events = _events(request, await request.body())
    results: list[dict[str, Any]] = []
    for start in range(0, len(events), CHUNK):
        part = events[start : start + CHUNK]
        work = partial(_take_all, here.extra["around"], platform, part)
        taken = await asyncio.wrap_future(await _accepted(here, work, patient=start > 0))
        results += taken
    counts = {o: sum(r["outcome"] == o for r in results) for o in ("accepted", "duplicate", "refused")}
    return Response(orjson.dumps(counts | {"items": results}), media_type="application/json")


async def _accepted(here: Runtime, work: Callable[[Tx], list[dict[str, Any]]], *, patient: bool) -> Future[list[dict[str, Any]]]:
    """Submit; a push of which a part was done already waits for room, because "busy" says that nothing was done."""
    until = monotonic() + (PATIENCE if patient else 0)
    while True:
        try:
            return here.writer.submit(work)
        except Busy:
            if monotonic() >= until:
                raise
            await asyncio.sleep(0.02)


def _take_all(around: Any, platform: str, events: list[Any], tx: Tx) -> list[dict[str, Any]]:
    return [take(tx, around, platform, event) for event in events]


MAX_EVENTS = 5000


def _events(request: Request, body: bytes) -> list[Any]:
    """The events of a body in any of its four forms. Raises Invalid where the body as a whole cannot be read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/x-ndjson":
            found = [_line(line) for line in body.splitlines() if line.strip()]
        elif kind == "application/cloudevents-batch+json":
            found = orjson.loads(body)
        elif kind == "application/cloudevents+json":
            found = [orjson.loads(body)]
        elif "ce-id" in request.headers:
            attributes = {k[3:]: unquote(v) for k, v in request.headers.items() if k.startswith("ce-")}
            found = [attributes | {"data": orjson.loads(body or b"{}")}]
        else:
            raise Invalid("send application/cloudevents+json, -batch+json, x-ndjson, or ce- headers", field="/content-type")
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}", field="/body") from None
    if not isinstance(found, list) or not found:
        raise Invalid("a batch is a list with at least one event", field="/body")
    if len(found) > MAX_EVENTS:
        raise Invalid(f"at most {MAX_EVENTS} events at a time", field="/body")
    return found


def _line(line: bytes) -> Any:
    """One event of many; a line that is no JSON is refused by itself, as the text that it is."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.decode("utf-8", "replace")


@router.get("/quarantine", response_model=list[Waiting])
def waiting(
    request: Request, here: Here, caller: Annotated[Caller, allow("administrator", "integrator")],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:  # fmt: skip
    """Refused events that wait to be corrected, as they came, with all their texts; a platform sees its own."""
    refuse_unknown(request)
    if "administrator" in caller.roles:
        return queries.quarantined(here.engine, limit, None)
    if caller.platform is None:
        raise Forbidden("a platform reads what was refused of it with its API key")
    return queries.quarantined(here.engine, limit, caller.platform)


class Correction(BaseModel):
    """The event as it should have been; without it the kept one is tried again."""

    model_config = ConfigDict(extra="forbid")
    event: Annotated[dict[str, Any], AfterValidator(_as_json)] | None = None


@router.post("/quarantine/{item}/replay", response_model=None, responses=answered(Outcome))
async def replay(item: Id, body: Correction, here: Here, _: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Try a refused event again, corrected or as it was."""
    return await asyncio.wrap_future(here.writer.submit(lambda tx: again(tx, here.extra["around"], item, body.event)))
