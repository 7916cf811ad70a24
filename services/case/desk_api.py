"""HTTP of the desk: the caller's queue and its counts, saved filters, many steps at once, and the timeline of a case."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from services.case import bulk, desk, domain, saved
from services.case.answers import Case
from services.case.api import STAFF, Code, Here, Id, NewAction
from services.case.bulk import Item
from services.case.export import Kind
from services.case.guards import light
from services.case.lists import Filters, Light
from services.case.lists_api import FILE, Cursor, exported
from services.case.texts import CODE_PATTERN, Plain
from services.case.timeline import timeline
from shared.auth import Caller, allow
from shared.clock import stamp
from shared.database import Tx, reading
from shared.errors import Busy
from shared.web import Runtime

router = APIRouter(prefix="/api/case/v1", tags=["case"])
TOGETHER = 50
"""Steps of one request that share a turn of the writer, so that many do not hold up everybody else."""


class Waiting(BaseModel):
    """What of the queue is wanted; nothing said is all of it."""

    model_config = ConfigDict(extra="forbid")
    role: str | None = Field(None, max_length=24, description="the desk of one of the caller's roles")
    state: domain.State | None = None
    light: Light | None = None
    department: str | None = Field(None, max_length=80, pattern=CODE_PATTERN)


class QueueWanted(Waiting):
    cursor: Cursor = None
    limit: int = Field(50, ge=1, le=500)


class QueueItem(Case):
    """A case that waits, with the colour of its clock."""

    light: Light | None


class Queue(BaseModel):
    """Cases that wait for the caller: tasks for him by name first, then by what is due."""

    items: list[QueueItem]
    next: str | None


class Lights(BaseModel):
    """How many cases wait, by the colour of the clock that counts; `none`: no clock runs."""

    green: int
    yellow: int
    red: int
    none: int
    total: int


class Counts(BaseModel):
    """What waits at an instant, for each role of the caller and in each state. A case may wait for two of his roles."""

    at: str
    roles: dict[str, Lights]
    states: dict[domain.State, Lights]


class NewFilter(BaseModel):
    """A filter to keep."""

    model_config = ConfigDict(extra="forbid")
    name: Plain(80, 1) = Field(examples=["本周超期"])  # type: ignore[valid-type]
    query: Filters = Field(examples=[{"overdue": True, "department": "lamps"}])
    shared_with: str | None = Field(None, max_length=24, description="a role of the caller that sees it, too")


class SavedFilter(BaseModel):
    """A kept filter; `query` holds parameters of `GET /cases`."""

    id: str
    name: str
    query: dict[str, Any]
    shared_with: str | None
    changed_at: str
    mine: bool = Field(description="whether the caller may change it")


class BulkItem(NewAction):
    """One step of many."""

    case: Code

    def step(self) -> Item:
        given = {name: value for name, value in self.given().items() if name != "case"}
        return Item(self.case, self.version, self.action, given)


class NewActions(BaseModel):
    """Steps to take, in this order."""

    model_config = ConfigDict(extra="forbid")
    items: list[BulkItem] = Field(min_length=1, max_length=200)


class BulkResult(BaseModel):
    """What became of one step. `repeated`: the caller had taken this very step already, and nothing was done again."""

    case: str
    outcome: Literal["done", "repeated", "refused"]
    version: int | None
    state: domain.State | None
    problem: dict[str, Any] | None = Field(description="why it was refused, as a problem document")


class BulkResults(BaseModel):
    done: int
    repeated: int
    refused: int
    items: list[BulkResult]


class Entry(BaseModel):
    """One step. What is missing for a platform: who acted, what was said, when the node learnt of it."""

    version: int
    action: domain.Action | Literal["report"]
    source: domain.State | None
    target: domain.State
    at: str
    department: str | None
    clock: dict[str, Any] | None = Field(description="stages whose clock ended, with their use; the deadline, if it moved")
    noted_at: str | None = None
    actor: str | None = None
    roles: list[str] = []
    opinion: str | None = None
    detail: dict[str, Any] | None = None


class Timeline(BaseModel):
    """Everything that was done with a case, the oldest first."""

    case: str
    number: str
    version: int
    entries: list[Entry]


def _desk(connection: Connection, here: Runtime, caller: Caller, role: str | None = None) -> desk.Desk:
    roles = here.extra["around"].policy.get(connection).widened(caller.roles)
    return desk.asked(caller, roles, role)


@router.get("/queue", response_model=Queue)
def queue(here: Here, caller: Annotated[Caller, allow(*STAFF)], wanted: Annotated[QueueWanted, Query()]) -> dict[str, Any]:
    """The cases that wait for the caller, by his roles, his departments and his name."""
    at = here.now()
    with reading(here.engine) as connection:
        rows, following = desk.queue(
            connection, _desk(connection, here, caller, wanted.role), at, states=wanted.state and [wanted.state],
            light=wanted.light, department=wanted.department, cursor=wanted.cursor, limit=wanted.limit,
        )  # fmt: skip
    return {"items": [row | {"light": light(row, stamp(at))} for row in rows], "next": following}


@router.get("/queue/counts", response_model=Counts)
def counts(here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """How many cases wait for the caller, by role and colour."""
    with reading(here.engine) as connection:
        return desk.counts(connection, _desk(connection, here, caller), here.now())


@router.get("/queue.{kind}", response_class=Response, responses=FILE)  # type: ignore[arg-type]
def queue_file(kind: Kind, here: Here, caller: Annotated[Caller, allow(*STAFF)], wanted: Annotated[Waiting, Query()]) -> Response:
    """The caller's whole queue as a file for a spreadsheet."""

    def rows(connection: Connection) -> Iterator[dict[str, Any]]:
        whose, at, cursor = _desk(connection, here, caller, wanted.role), here.now(), None
        states = wanted.state and [wanted.state]
        while True:
            found, cursor = desk.queue(
                connection, whose, at, states=states, light=wanted.light, department=wanted.department, cursor=cursor, limit=1000
            )
            yield from found
            if cursor is None:
                return

    return exported(here, caller, kind, "queue", wanted, rows)


@router.get("/filters", response_model=list[SavedFilter])
def filters(here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> list[dict[str, Any]]:
    """The caller's saved filters and those shared with his roles."""
    with reading(here.engine) as connection:
        return saved.seen(connection, caller)


@router.post("/filters", status_code=201, response_model=SavedFilter)
async def keep(body: NewFilter, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """Keep a filter under a name."""
    work = partial(saved.save, who=caller, name=body.name, query=body.query, shared_with=body.shared_with)
    return await asyncio.wrap_future(here.writer.submit(work))


@router.put("/filters/{filter_id}", response_model=SavedFilter)
async def change(filter_id: Id, body: NewFilter, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """Change one of the caller's own filters."""
    work = partial(
        saved.save, who=caller, name=body.name, query=body.query, shared_with=body.shared_with, ident=filter_id
    )  # fmt: skip
    return await asyncio.wrap_future(here.writer.submit(work))


@router.delete("/filters/{filter_id}", status_code=204)
async def forget(filter_id: Id, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> None:
    """Remove one of the caller's own filters."""
    await asyncio.wrap_future(here.writer.submit(partial(saved.remove, who=caller, ident=filter_id)))


@router.post("/actions", response_model=BulkResults)
async def act_all(body: NewActions, here: Here, caller: Annotated[Caller, allow(*STAFF, "integrator")]) -> dict[str, Any]:
    """Take up to 200 steps, each by itself: what is refused costs the others nothing, and sent again nothing is done twice."""
    around, items = here.extra["around"], [item.step() for item in body.items]
    results: list[dict[str, Any]] = []
    for start in range(0, len(items), TOGETHER):
        part = items[start : start + TOGETHER]

        def work(tx: Tx, part: list[Item] = part) -> list[dict[str, Any]]:
            return bulk.act_all(tx, around, part, caller)

        try:
            results += await asyncio.wrap_future(here.writer.submit(work))
        except Busy as error:
            if not results:
                raise
            results += [bulk.refused(item.case, error) for item in part]
    counted = {outcome: sum(r["outcome"] == outcome for r in results) for outcome in ("done", "repeated", "refused")}
    return counted | {"items": results}


@router.get("/cases/{case_id}/timeline", response_model=Timeline, response_model_exclude_unset=True)
def past(case_id: Id, here: Here, caller: Annotated[Caller, allow(*STAFF, "integrator")]) -> dict[str, Any]:
    """The report and every step since. A platform sees those of its own cases, without who acted and what was said."""
    with reading(here.engine) as connection:
        return timeline(connection, case_id, caller)
