"""HTTP of participation: ratings and return visits, groups of reporters of a kind, rewards and purses."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import insert, select, update

from services.case import ratings, rewards
from services.case.answers import answered
from services.case.api import STAFF, Here, Id
from services.case.ratings import Reason
from services.case.rewards import Reward
from services.case.texts import CODE_PATTERN, Plain
from shared import audit
from shared.auth import Caller, allow, public
from shared.clock import stamp
from shared.database import Tx, reading
from shared.errors import Conflict

router = APIRouter(prefix="/api/case/v1", tags=["case"])
PURSE = "whoever has the code of a purse holds it"
PurseCode = Annotated[
    str, Header(alias="X-Purse-Code", max_length=80, description="as it was shown; case and hyphens do not matter")
]
Code = Annotated[str, Field(max_length=40, pattern=CODE_PATTERN)]


class Rated(BaseModel):
    """A rating; without a score a return visit reached nobody."""

    id: str
    by: ratings.By
    score: int | None = Field(description="3 very satisfied, 2 satisfied, 1 not")
    reasons: list[str]
    text: str | None
    at: str


class NewRating(BaseModel):
    """What was said of the work."""

    model_config = ConfigDict(extra="forbid", strict=True)
    score: int | None = Field(None, ge=1, le=3, description="3 very satisfied, 2 satisfied, 1 not")
    reasons: list[Reason] = Field([], max_length=8)
    text: Plain(500) | None = Field(None, description="stays at this node")  # type: ignore[valid-type]


class StaffRating(NewRating):
    """A rating that staff note down: of a return visit 回访, or of a third party's evaluator."""

    by: Literal["visit", "third_party"]


@router.get("/cases/{case_id}/ratings", response_model=list[Rated])
def of_case(case_id: Id, here: Here, _: Annotated[Caller, allow(*STAFF)]) -> list[dict[str, Any]]:
    """What was said of the work on a case."""
    with reading(here.engine) as connection:
        return ratings.of_case(connection, case_id)


@router.post("/cases/{case_id}/ratings", status_code=201, response_model=None, responses=answered(Rated, 201))
async def rate(
    case_id: Id, body: StaffRating, here: Here, caller: Annotated[Caller, allow("acceptor", "evaluator")]
) -> dict[str, Any]:
    """Note down a return visit or a third party's rating; a visit that reached nobody has no score."""

    def work(tx: Tx) -> dict[str, Any]:
        return ratings.rate(tx, here.extra["around"], case_id, body.by, body.score, caller, body.reasons, body.text)

    return await asyncio.wrap_future(here.writer.submit(work))


class NewGroup(BaseModel):
    """A group of reporters of a kind: volunteers 志愿者, merchants 商户自治, a compound. It has no list of members."""

    model_config = ConfigDict(extra="forbid", strict=True)
    code: Code
    kind: Literal["volunteers", "merchants", "compound", "other"]
    name_zh: Plain(120, 1)  # type: ignore[valid-type]
    name_en: Plain(120, 1)  # type: ignore[valid-type]


class Group(BaseModel):
    """A group of reporters as it is known; one that has ended says since when."""

    code: str
    kind: str
    name_zh: str
    name_en: str
    ended_at: str | None


@router.get("/groups", dependencies=[public("who may report for a group sees which there are")], response_model=list[Group])
def known_groups(here: Here) -> list[dict[str, Any]]:
    """Every group, those that have ended too."""
    with reading(here.engine) as connection:
        return [dict(r) for r in connection.execute(select(rewards.groups).order_by(rewards.groups.c.code)).mappings()]


@router.post("/groups", status_code=201, response_model=None, responses=answered(Group, 201))
async def found_group(body: NewGroup, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Make a group known."""
    row = body.model_dump() | {"ended_at": None}

    def work(tx: Tx) -> dict[str, Any]:
        if tx.execute(select(rewards.groups.c.code).where(rewards.groups.c.code == body.code)).first():
            raise Conflict("there is a group with this code", field="/code")
        tx.execute(insert(rewards.groups), row)
        audit.note(tx, caller.name, caller.roles, "found_group", "group", body.code)
        return row

    return await asyncio.wrap_future(here.writer.submit(work))


@router.post("/groups/{group}/end", status_code=204)
async def end_group(group: Id, here: Here, caller: Annotated[Caller, allow("administrator")]) -> None:
    """End a group: nobody reports for it any more; what it did stays."""

    def work(tx: Tx) -> None:
        ended = update(rewards.groups).where(rewards.groups.c.code == group, rewards.groups.c.ended_at.is_(None))
        if tx.execute(ended.values(ended_at=stamp(tx.now()))).rowcount != 1:
            raise Conflict("there is no such group at work", field="/group")
        audit.note(tx, caller.name, caller.roles, "end_group", "group", group)

    await asyncio.wrap_future(here.writer.submit(work))


class Rewards(BaseModel):
    """The rules of rewards; the first that fits a report counts."""

    model_config = ConfigDict(extra="forbid", strict=True)
    edition: int = Field(ge=0)
    rules: list[Reward] = Field(max_length=200)


@router.get("/rewards", dependencies=[public("who may earn something sees by which rules")], response_model=Rewards)
def rules(here: Here) -> dict[str, Any]:
    """The rules in force."""
    with reading(here.engine) as connection:
        edition, held = here.extra["around"].rewards.get(connection)
        return {"edition": edition, "rules": list(held)}


@router.put("/rewards", response_model=None, responses=answered(Rewards))
async def change_rules(body: Rewards, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Put other rules in force for what is filed from now on; `edition` is the one that they change."""
    held = here.extra["around"].rewards
    edition = await asyncio.wrap_future(
        here.writer.submit(lambda tx: rewards.change(tx, held, body.rules, body.edition, caller))
    )
    return {"edition": edition, "rules": [r.model_dump(mode="json") for r in body.rules]}


class NewPurse(BaseModel):
    """For which group a purse is, if for one."""

    model_config = ConfigDict(extra="forbid", strict=True)
    group: Code | None = None


class Opened(BaseModel):
    purse_code: str = Field(description="shown this once; it is the only way to what the purse holds")


@router.post(
    "/purses", status_code=201, response_model=None, responses=answered(Opened, 201),
    dependencies=[public("points are earned without an account")],
)  # fmt: skip
async def open_purse(body: NewPurse, here: Here, response: Response) -> dict[str, str]:
    """A new purse. Give its code with reports that shall earn."""
    response.headers["Cache-Control"] = "no-store"
    return {"purse_code": await asyncio.wrap_future(here.writer.submit(lambda tx: rewards.open_purse(tx, body.group)))}


class Entry(BaseModel):
    points: int
    kind: Literal["earned", "taken_back", "paid"]
    rule: str | None
    day: str


class Held(BaseModel):
    """What a purse holds, and its newest entries."""

    points: int
    entries: list[Entry]


@router.get("/purses/mine", response_model=None, responses=answered(Held), dependencies=[public(PURSE)])
def mine(code: PurseCode, here: Here, response: Response) -> dict[str, Any]:
    """What the purse of a code holds."""
    response.headers["Cache-Control"] = "no-store"
    with reading(here.engine) as connection:
        purse = rewards.purse_of(connection, code)["hash"]
        table = rewards.ledger
        wanted = select(table.c.points, table.c.kind, table.c.rule, table.c.day).where(table.c.purse == purse)
        newest = connection.execute(wanted.order_by(table.c.at.desc()).limit(100)).mappings()
        return {"points": rewards.left(connection, purse), "entries": [dict(r) for r in newest]}


class Payout(BaseModel):
    """How many points are paid out, to whoever shows the code."""

    model_config = ConfigDict(extra="forbid", strict=True)
    points: int = Field(gt=0, le=1_000_000)


class Left(BaseModel):
    points: int


@router.post("/purses/payouts", response_model=None, responses=answered(Left))
async def pay(
    code: PurseCode, body: Payout, here: Here, caller: Annotated[Caller, allow("acceptor", "administrator")]
) -> dict[str, int]:
    """Pay out at the counter; nobody is asked who he is."""
    around = here.extra["around"]
    left = here.writer.submit(lambda tx: rewards.pay(tx, around, code, body.points, caller))
    return {"points": await asyncio.wrap_future(left)}
