"""HTTP of reporters: the citizen's form, and following a report by its tracking code.

The tracking code comes in a header and never in an address: addresses end in logs, in histories and with whoever is linked to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from services.case import comments, following, postings, queries, ratings, reporters, rewards
from services.case.answers import answered
from services.case.api import Here, Placed
from services.case.commands import Report, act, report
from services.case.domain import Action
from services.case.erasure import Erasure
from services.case.intake import once, remember
from services.case.participation_api import NewRating, Rated
from services.case.reporters import Contact, Custody
from services.case.texts import CODE_PATTERN, Plain
from shared.auth import Caller, public
from shared.database import Tx, reading
from shared.vault import Vault
from shared.web import Runtime

CITIZEN = Caller("reporter", following.REPORTER)
"""How the timeline and the audit log name whoever shows a tracking code: all alike."""
PATH = "/api/case/v1"
FORM = "citizens report without an account"
CODE = "whoever has the tracking code of a report is its reporter"


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Erases on time, tells how late it is, and says so to whoever asks whether the node is ready."""
    here: Runtime = app.state.runtime
    loop = Erasure(here.engine, here.writer, custody(here), here.extra["around"], here.node.retention.vacuum_bytes)
    here.extra["erasure"] = loop
    here.checks["reporters"] = loop.check
    here.measures.append(loop.measure)
    here.loops.start("erasure", loop.turn)
    yield
    here.loops.drop("erasure")


def custody(here: Runtime) -> Custody:
    """How this node keeps what reporters left."""
    found = here.extra.get("custody")
    if found is None:
        vault = Vault(here.node.keys, here.node.code)
        found = here.extra.setdefault("custody", Custody(vault, here.node.retention.days, here.node.tz))
    return found  # type: ignore[no-any-return]


router = APIRouter(prefix=PATH, tags=["case"], lifespan=life)
TrackingCode = Annotated[str, Header(alias="X-Tracking-Code", description="as it was shown; case and hyphens do not matter")]
RandomKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=22, max_length=80, pattern=r"^[!-~]+$", description="random; a repeat with it "
           "answers the same number, and a new tracking code in the place of the one that was lost with the first answer"),
]  # fmt: skip
SECRET = {"Cache-Control": "no-store"}


class CitizenReport(Placed):
    """A report by anybody; who wants to be told more leaves a way to be reached, which is sealed and erased on time."""

    contact: Contact | None = None
    joins: str | None = Field(None, max_length=40, pattern=CODE_PATTERN, description="me too: the case that it is about")
    purse: str | None = Field(None, max_length=80, description="code of the purse that shall earn")
    group: str | None = Field(None, max_length=40, pattern=CODE_PATTERN, description="group of volunteers or merchants")
    application: str | None = Field(None, max_length=40, pattern=CODE_PATTERN)


class Filed(BaseModel):
    """The number to name and the code to follow the report with; the code is shown this once."""

    number: str
    tracking_code: str = Field(description="nine groups of three; keep it like a key")


class Phase(BaseModel):
    """A part of a case's life in plain words."""

    code: str
    zh: str
    en: str


class Moment(Phase):
    """When a phase began."""

    at: str


class Addition(BaseModel):
    """Something that the reporter wrote later."""

    at: str
    text: str


class Followed(BaseModel):
    """What has become of a report."""

    number: str
    category: str
    reported_at: str
    phase: Phase
    merged: bool = Field(description="handled together with another report of the same problem, whose phase this is")
    due_at: str | None
    ended_at: str | None
    timeline: list[Moment]
    can: list[str] = Field(description="what the reporter may do now: withdraw, reopen")
    additions: list[Addition]
    comments: list[Addition] = Field(description="what the administration says of it in public")
    contact: bool = Field(description="whether the reporter's contact data are still kept")


class Written(BaseModel):
    """A plain text."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: Plain(2000, 1)  # type: ignore[valid-type]


class Reopening(BaseModel):
    """Why the closed case is not in order."""

    model_config = ConfigDict(extra="forbid", strict=True)
    opinion: Plain(500, 1)  # type: ignore[valid-type]



class Erased(BaseModel):
    """Whether something was there to be erased."""

    erased: bool





@router.post(
    "/reports", status_code=201, response_model=None, responses=answered(Filed, 201), dependencies=[public(FORM)],
)  # fmt: skip
async def file(
    body: CitizenReport, here: Here, response: Response,
    key: RandomKey = None,
) -> dict[str, str]:  # fmt: skip
    """Report a problem without an account."""
    what = Report(**body.model_dump(exclude={"contact", "joins", "purse", "group"}), channel="public")

    def work(tx: Tx) -> dict[str, str]:
        # The contact data are not part of the digest, which is kept longer than they are.
        if key and (known := once(tx, CITIZEN.name, key, vars(what))):
            case, _, _ = reporters.followed(tx.connection, known)
            return {"number": case["number"], "tracking_code": reporters.renew(tx, known)}
        row = report(tx, here.extra["around"], what)
        code = reporters.keep(tx, custody(here), row["id"], body.contact)
        rewards.contribute(tx, row["id"], body.purse, body.group)
        if body.joins:
            act(tx, here.extra["around"], row["id"], "join", CITIZEN.roles, given={"into": body.joins}, who=CITIZEN)
        if key:
            remember(tx, CITIZEN.name, key, vars(what), row["id"])
        return {"number": row["number"], "tracking_code": code}

    response.headers.update(SECRET)
    return await asyncio.wrap_future(here.writer.submit(work))


def _followed(connection: Connection, case_id: str) -> dict[str, Any]:
    case, steps, surviving = reporters.followed(connection, case_id)
    said = [{"at": c["at"], "text": c["text"]} for c in comments.public_of(connection, surviving["id"])]
    return following.seen(case, steps, surviving) | {
        "additions": reporters.added(connection, case_id), "comments": said,
        "contact": reporters.state(connection, case_id)["contact"],
    }  # fmt: skip


@router.get("/reports/mine", response_model=None, responses=answered(Followed), dependencies=[public(CODE)])
def follow(code: TrackingCode, here: Here, response: Response) -> dict[str, Any]:
    """What has become of a report, in plain words."""
    response.headers.update(SECRET)
    with reading(here.engine) as connection:
        case_id = reporters.case_of(connection, code)
        return _followed(connection, case_id)


@router.post(
    "/reports/mine/additions", status_code=201, response_model=None, responses=answered(Addition, 201),
    dependencies=[public(CODE)],
)  # fmt: skip
async def add(code: TrackingCode, body: Written, here: Here) -> dict[str, Any]:
    """Add something to one's own report while the case is open."""

    def work(tx: Tx) -> dict[str, Any]:
        case_id = reporters.case_of(tx.connection, code)
        postings.add(tx, queries.row(tx.connection, case_id), body.text)
        return reporters.add(tx, case_id, body.text)

    return await asyncio.wrap_future(here.writer.submit(work))


@router.post(
    "/reports/mine/rating", status_code=201, response_model=None, responses=answered(Rated, 201), dependencies=[public(CODE)],
)  # fmt: skip
async def rate(code: TrackingCode, body: NewRating, here: Here) -> dict[str, Any]:
    """Say how satisfied one is with the work, once for each ending."""

    def work(tx: Tx) -> dict[str, Any]:
        case_id = reporters.case_of(tx.connection, code)
        return ratings.rate(tx, here.extra["around"], case_id, "reporter", body.score, CITIZEN, body.reasons, body.text)

    return await asyncio.wrap_future(here.writer.submit(work))


@router.post("/reports/mine/withdrawal", response_model=None, responses=answered(Followed), dependencies=[public(CODE)])
async def withdraw(code: TrackingCode, here: Here) -> dict[str, Any]:
    """Take one's own report back before it is filed."""
    return await _acted(here, code, "withdraw", {})


@router.post("/reports/mine/reopening", response_model=None, responses=answered(Followed), dependencies=[public(CODE)])
async def reopen(code: TrackingCode, body: Reopening, here: Here) -> dict[str, Any]:
    """Have one's own case taken up again within the time set after its closing."""
    return await _acted(here, code, "reopen", {"opinion": body.opinion})


async def _acted(here: Runtime, code: str, action: Action, given: dict[str, Any]) -> dict[str, Any]:
    def work(tx: Tx) -> dict[str, Any]:
        case_id = reporters.case_of(tx.connection, code)
        act(tx, here.extra["around"], case_id, action, CITIZEN.roles, given=given, who=CITIZEN)
        return _followed(tx.connection, case_id)

    return await asyncio.wrap_future(here.writer.submit(work))


@router.post("/reports/mine/erasure", response_model=None, responses=answered(Erased), dependencies=[public(CODE)])
async def erase_mine(code: TrackingCode, here: Here) -> dict[str, bool]:
    """Have one's own contact data erased at once; the report and its code stay."""

    def work(tx: Tx) -> bool:
        case_id = reporters.case_of(tx.connection, code)
        return reporters.erase(tx, [case_id], CITIZEN.name, CITIZEN.roles, "asked for by the reporter") > 0

    return {"erased": await asyncio.wrap_future(here.writer.submit(work))}
