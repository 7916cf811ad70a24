"""HTTP of reporters for staff: register what a caller leaves, see whether something is kept, open it for a reason, erase it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from services.case import queries, reporters
from services.case.answers import answered
from services.case.api import STAFF, Here, Id
from services.case.reporters import Contact
from services.case.reporters_api import SECRET, Addition, Erased, custody
from services.case.texts import Day, Plain
from shared.auth import Caller, allow
from shared.database import Tx, reading

router = APIRouter(prefix="/api/case/v1", tags=["case"])


class Kept(BaseModel):
    """What is kept of the reporter of a case, without opening it."""

    code: bool = Field(description="whether the report has a tracking code")
    contact: bool = Field(description="whether contact data are kept")
    expires_on: str | None = Field(description="the last day; looked at again then, while the case is open")
    erased_at: str | None
    lost: bool = Field(description="the key was gone before its time: ask the reporter again")


class Reason(BaseModel):
    """Why something is done with a reporter's data; stands in the audit log for ever, so it names no person."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: Plain(200, 8)  # type: ignore[valid-type]


class Longer(Reason):
    """Until when to keep it, and why."""

    until: Day


class Given(BaseModel):
    """The tracking code of a report that was taken by telephone; shown this once."""

    tracking_code: str


@router.post("/cases/{case_id}/reporter", status_code=201, response_model=None, responses=answered(Given, 201))
async def register(
    case_id: Id, body: Contact, here: Here, response: Response, caller: Annotated[Caller, allow("acceptor")],
) -> dict[str, str]:  # fmt: skip
    """Keep what a caller on the hotline left, and answer the tracking code to be read out to him."""
    response.headers.update(SECRET)
    code = await asyncio.wrap_future(
        here.writer.submit(lambda tx: reporters.keep(tx, custody(here), case_id, body, caller))
    )  # fmt: skip
    return {"tracking_code": code}


@router.get("/cases/{case_id}/reporter", response_model=None, responses=answered(Kept))
def kept(case_id: Id, here: Here, _: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """Whether something of the reporter is kept and until when; opens nothing."""
    with reading(here.engine) as connection:
        queries.row(connection, case_id)
        return reporters.state(connection, case_id)


@router.get("/cases/{case_id}/additions", response_model=None, responses=answered(list[Addition]))
def additions(case_id: Id, here: Here, _: Annotated[Caller, allow(*STAFF)]) -> list[dict[str, Any]]:
    """What the reporter of a case wrote later."""
    with reading(here.engine) as connection:
        queries.row(connection, case_id)
        return reporters.added(connection, case_id)


@router.post("/cases/{case_id}/reporter/opening", response_model=None, responses=answered(Contact))
async def open_(
    case_id: Id, body: Reason, here: Here, response: Response, caller: Annotated[Caller, allow(*reporters.OPENERS)],
) -> dict[str, Any]:  # fmt: skip
    """Read what the reporter left, to call back; who, when and why is in the audit log before this is answered."""
    response.headers.update(SECRET)
    return await asyncio.wrap_future(
        here.writer.submit(lambda tx: reporters.read(tx, custody(here), case_id, caller, body.reason))
    )


@router.post("/cases/{case_id}/reporter/prolongation", response_model=None, responses=answered(Kept))
async def prolong(
    case_id: Id, body: Longer, here: Here, caller: Annotated[Caller, allow("shift_supervisor", "administrator")],
) -> dict[str, Any]:  # fmt: skip
    """Keep what the reporter left for longer, such as while an objection is open."""

    def work(tx: Tx) -> dict[str, Any]:
        reporters.prolong(tx, custody(here), case_id, body.until, caller, body.reason)
        return reporters.state(tx.connection, case_id)

    return await asyncio.wrap_future(here.writer.submit(work))


@router.post("/cases/{case_id}/reporter/erasure", response_model=None, responses=answered(Erased))
async def erase_by_staff(
    case_id: Id, body: Reason, here: Here, caller: Annotated[Caller, allow("acceptor", "administrator")],
) -> dict[str, bool]:  # fmt: skip
    """Erase what the reporter left because he asked for it on the telephone, or because it should never have been kept."""
    erased = await asyncio.wrap_future(
        here.writer.submit(lambda tx: reporters.erase(tx, [case_id], caller.name, caller.roles, body.reason))
    )
    return {"erased": erased > 0}
