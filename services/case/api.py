"""HTTP of the case service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.case import Channel
from services.case import domain, queries
from services.case.answers import BODY, Case, CaseNow, CasePage, Outcome, Pushed, Step, Waiting, answered
from services.case.commands import Report, act, report
from services.case.push import again, take
from shared.auth import Caller, allow, public
from shared.database import Tx
from shared.errors import Busy, Forbidden, Invalid
from shared.listing import Wanted, answer, documented
from shared.web import Runtime, refuse_unknown

router = APIRouter(prefix="/api/case/v1", tags=["case"])
STAFF = ("acceptor", "shift_supervisor", "dispatcher", "department", "checker", "evaluator", "administrator", "auditor")
CATEGORY = "^[0-9A-Z]{2,20}$"
CHUNK = 100
"""Events of one push that share a turn of the writer, so that a large batch does not hold up everybody else."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds the character U+0000, which databases do not keep")
    return text


def _as_json(event: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what the body's reader lets through although no JSON writes it, such as half a character."""
    try:
        orjson.dumps(event)
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return event


Id = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z._:-]+$")]


PATIENCE = 10.0
"""Seconds for which the rest of a push waits for room."""


class NewReport(BaseModel):
    """A report by staff."""

    model_config = ConfigDict(extra="forbid", strict=True)
    category: str = Field(max_length=20, examples=["E0101"])
    lon: float = Field(ge=-180, le=180, examples=[87.62])
    lat: float = Field(ge=-90, le=90, examples=[43.72])
    channel: Channel = "collector"
    text: Annotated[str, AfterValidator(_without_nul)] | None = Field(None, max_length=2000, description="stays at this node")


class NewAction(BaseModel):
    """One step of the workflow; `version` is the one that the caller saw."""

    model_config = ConfigDict(extra="forbid", strict=True)
    action: domain.Action
    version: int
    department: str | None = Field(None, max_length=80, pattern=r"^[0-9A-Za-z._:-]+$")
    reason: Literal["not_found", "out_of_scope", "duplicate", "transferred", "other"] = "other"


async def runtime(request: Request) -> Runtime:
    # Async although it waits for nothing: what is not is sent through a thread, which costs more than the look-up.
    found: Runtime = request.app.state.runtime
    return found


Here = Annotated[Runtime, Depends(runtime)]


@router.get("/workflow", dependencies=[public("the rules of the work are no secret")], response_model=list[Step])
def workflow() -> list[dict[str, Any]]:
    """The workflow as a table, for clients that draw it."""
    return [vars(s) | {"roles": sorted(s.roles)} for s in domain.WORKFLOW]


@router.post("/cases", status_code=201, response_model=None, responses=answered(Case, 201))
async def create(
    body: NewReport, here: Here, _: Annotated[Caller, allow("collector", "acceptor", "integrator")]
) -> Response:
    """Register a report."""
    what = Report(**body.model_dump())
    row = await asyncio.wrap_future(here.writer.submit(lambda tx: report(tx, here.extra["around"], what)))
    # Written here: the framework's own way through every value costs as much as filing the case.
    return Response(orjson.dumps(queries.shown(row)), 201, media_type="application/json")


@router.post("/cases/{case_id}/actions", response_model=None, responses=answered(CaseNow))
async def do(
    case_id: Id, body: NewAction, here: Here,
    caller: Annotated[Caller, allow(*STAFF, "integrator")],
) -> dict[str, Any]:  # fmt: skip
    """Take one step of the workflow."""
    given = {"department": body.department, "reason": body.reason}
    row = await asyncio.wrap_future(
        here.writer.submit(
            lambda tx: act(tx, here.extra["around"], case_id, body.action, caller.roles, version=body.version, given=given)
        )
    )
    return queries.shown(row) | {"allowed": domain.allowed(row["state"], caller.roles)}


@router.get("/cases/{case_id}", response_model=None, responses=answered(CaseNow))
def one(case_id: Id, here: Here, caller: Annotated[Caller, allow(*STAFF, "integrator")]) -> dict[str, Any]:
    """One case and what the caller may do with it now."""
    row = queries.one(here.engine, case_id)
    return queries.shown(row) | {"allowed": domain.allowed(row["state"], caller.roles)}


@router.get("/cases", responses=documented(CasePage, "application/geo+json", "text/csv"))
def many(
    request: Request, here: Here, _: Annotated[Caller, allow(*STAFF, "integrator")],
    category: Annotated[str | None, Query(pattern=CATEGORY, examples=["E0101"])] = None,
    state: domain.State | None = None,
    area: Annotated[str | None, Query(max_length=20, description="a division and all within it")] = None,
    reported_from: Annotated[str | None, Query(description="instant with offset")] = None,
    reported_to: str | None = None,
    changed_since: str | None = None,
    bbox: Annotated[str | None, Query(description="west,south,east,north in degrees", examples=["87.5,43.7,87.7,43.9"])] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    format: Literal["json", "geojson", "csv"] = "json",
) -> Response:  # fmt: skip
    """De-identified cases: codes, instants and the place of the problem. Paged by `cursor`, in order of last change."""
    refuse_unknown(request)
    wanted = Wanted(category, state, area, reported_from, reported_to, changed_since, bbox, cursor, limit)
    rows, following = queries.many(here.engine, wanted, here.extra["around"].chain)
    return answer(rows, queries.PUBLIC, following, format, request.headers.get("if-none-match"))


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
