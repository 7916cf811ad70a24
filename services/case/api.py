"""HTTP of the case service: reports, steps, cases, the workflow and the node's policy."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.base import Instant
from contracts.case import Channel, Means
from services.case import domain, policy, queries, timers
from services.case.answers import Case, CaseFile, CaseNow, PolicyNow, Step, answered
from services.case.commands import Report, act, report
from services.case.guards import GUARDS
from services.case.intake import once, remember
from services.case.texts import CODE_PATTERN, Plain
from shared.auth import Caller, allow, public
from shared.database import Tx, reading
from shared.errors import Forbidden
from shared.web import Runtime

router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=timers.running)
STAFF = (
    "acceptor", "shift_supervisor", "dispatcher", "department", "handler", "collector", "checker", "leader", "evaluator",
    "administrator", "auditor",
)  # fmt: skip
CATEGORY = "^[0-9A-Z]{2,20}$"
Id = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z._:-]+$")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", max_length=80, pattern=r"^[!-~]+$", description="repeating a report with its key is safe"),
]
Text = Plain(2000)
Lon = Annotated[float, Field(ge=-180, le=180)]
Lat = Annotated[float, Field(ge=-90, le=90)]
Code = Annotated[str, Field(max_length=80, pattern=CODE_PATTERN)]


class Placed(BaseModel):
    """What a problem is and where: by a point, a grid cell, a part, or in words beside one of them."""

    model_config = ConfigDict(extra="forbid", strict=True)
    category: str = Field(max_length=20, pattern=CATEGORY, examples=["E0101"])
    lon: Lon | None = Field(None, examples=[87.62])
    lat: Lat | None = Field(None, examples=[43.72])
    cell: str | None = Field(None, max_length=20, pattern=CATEGORY)
    part: str | None = Field(None, max_length=20, pattern=CATEGORY)
    place: Plain(400) | None = Field(None, description="the place in words; stays at this node")  # type: ignore[valid-type]
    text: Text | None = Field(None, description="stays at this node")  # type: ignore[valid-type]
    answers: dict[str, Any] | None = Field(None, description="to the extra questions of the category", max_length=50)


class NewReport(Placed):
    """A report by staff or by a device."""

    channel: Channel = "collector"
    application: str | None = Field(None, max_length=40, pattern=CODE_PATTERN)
    self_handled: bool = Field(False, description="a collector put it right on the spot 自处理")


class Piece(Placed):
    """One part of a report that is split; what it does not say is as in the whole."""

    category: str | None = Field(None, max_length=20, pattern=CATEGORY)  # type: ignore[assignment]


class NewAction(BaseModel):
    """One step of the workflow; `version` is the one that the caller saw. Which fields a step needs stands in the workflow."""

    model_config = ConfigDict(extra="forbid", strict=True)
    action: domain.Action
    version: int = Field(ge=1, le=2**31 - 1)
    opinion: Text | None = None  # type: ignore[valid-type]
    reason: Literal["not_found", "out_of_scope", "duplicate", "transferred", "other"] | None = None
    result: Literal["exist", "not_exist", "unable"] | None = None
    assignee: Code | None = Field(None, description="account of the collector that a task is for")
    same_period: bool | None = Field(None, description="look at the same time of day as the report")
    condition: Annotated[str, Field(max_length=40, pattern=CODE_PATTERN)] | None = None
    department: Code | None = None
    helpers: list[Code] | None = Field(None, max_length=20)
    handler: Code | None = Field(None, description="account of the handler")
    until: Instant | None = None
    reply_by: Instant | None = None
    means: Means | None = None
    closing: Annotated[str, Field(max_length=40, pattern=CODE_PATTERN)] | None = Field(
        None, description="the closing condition that is met: the code of its filing condition"
    )
    into: Code | None = None
    parts: list[Piece] | None = Field(None, max_length=9)
    category: str | None = Field(None, max_length=20, pattern=CATEGORY)
    lon: Lon | None = None
    lat: Lat | None = None
    cell: str | None = Field(None, max_length=20, pattern=CATEGORY)
    part: str | None = Field(None, max_length=20, pattern=CATEGORY)

    def given(self) -> dict[str, Any]:
        """What was said, without what was left out; instants stay instants."""
        found = {k: v for k, v in self if v is not None and k not in ("action", "version", "parts")}
        return found | ({"parts": [p.model_dump(exclude_none=True) for p in self.parts]} if self.parts else {})


async def runtime(request: Request) -> Runtime:
    # Async although it waits for nothing: what is not is sent through a thread, which costs more than the look-up.
    found: Runtime = request.app.state.runtime
    return found


Here = Annotated[Runtime, Depends(runtime)]


@router.get("/workflow", dependencies=[public("the rules of the work are no secret")], response_model=list[Step])
def workflow() -> list[dict[str, Any]]:
    """The workflow as a table, for clients that draw it."""
    return [
        vars(s) | {
            "roles": sorted(s.roles), "clocks": [{"stage": stage, "effect": effect} for stage, effect in s.clocks],
            "guards": [{"name": g, "zh": GUARDS[g].zh, "en": GUARDS[g].en} for g in s.guards],
        }
        for s in domain.WORKFLOW
    ]  # fmt: skip


@router.post("/cases", status_code=201, response_model=None, responses=answered(Case, 201))
async def create(
    body: NewReport, here: Here, caller: Annotated[Caller, allow("collector", "acceptor", "leader", "integrator")],
    key: Key = None,
) -> Response:  # fmt: skip
    """Register a report. With an idempotency key a repeat answers the same case, whatever became of the first answer."""
    what = Report(**body.model_dump(), clocked=body.channel != "platform")
    if what.self_handled and not (what.channel == "collector" and "collector" in caller.roles):
        raise Forbidden("only a collector puts something right on the spot")

    def work(tx: Tx) -> dict[str, Any]:
        if key and (known := once(tx, caller.name, key, vars(what))):
            return queries.row(tx.connection, known)
        row = report(tx, here.extra["around"], what, who=caller)
        if key:
            remember(tx, caller.name, key, vars(what), row["id"])
        return row

    row = await asyncio.wrap_future(here.writer.submit(work))
    # Written here: the framework's own way through every value costs as much as filing the case.
    return Response(orjson.dumps(queries.shown(row)), 201, media_type="application/json")


@router.post("/cases/{case_id}/actions", response_model=None, responses=answered(CaseNow))
async def do(
    case_id: Id, body: NewAction, here: Here,
    caller: Annotated[Caller, allow(*STAFF, "integrator")],
) -> Response:  # fmt: skip
    """Take one step of the workflow."""
    around, given = here.extra["around"], body.given()

    def work(tx: Tx) -> dict[str, Any]:
        row = act(tx, around, case_id, body.action, caller.roles, version=body.version, given=given, who=caller)
        return queries.now(tx.connection, around, row, caller, tx.now())

    found = await asyncio.wrap_future(here.writer.submit(work))
    return Response(orjson.dumps(found), media_type="application/json")


@router.get("/cases/{case_id}", response_model=None, responses=answered(CaseFile | CaseNow))
def one(case_id: Id, here: Here, caller: Annotated[Caller, allow(*STAFF, "integrator")]) -> dict[str, Any]:
    """One case and what the caller may do with it now; staff also see what people wrote, and the clocks explained."""
    around, at = here.extra["around"], here.now()
    with reading(here.engine) as connection:
        row = queries.row(connection, case_id)
        found = queries.now(connection, around, row, caller, at)
        return found if caller.platform else found | queries.inside(connection, around, row, at)


@router.get("/policy", dependencies=[public("the rules that an office sets itself are no secret")], response_model=PolicyNow)
def policy_now(here: Here) -> dict[str, Any]:
    """The node's policy: limits of the stages, colours, what is verified first, how often and how long."""
    with reading(here.engine) as connection:
        held = here.extra["around"].policy.get(connection)
        return {"edition": policy.edition(connection), "policy": held.model_dump(mode="json")}


class NewPolicy(BaseModel):
    """A whole policy; what it leaves out goes back to the default."""

    model_config = ConfigDict(extra="forbid", strict=True)
    edition: int = Field(ge=0, description="the edition that this one changes")
    policy: policy.Policy


@router.put("/policy", response_model=PolicyNow)
async def change_policy(body: NewPolicy, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Put another policy in force, for every step from now on."""
    held = here.extra["around"].policy
    return await asyncio.wrap_future(
        here.writer.submit(lambda tx: policy.change(tx, held, body.policy, body.edition, caller.name))
    )
