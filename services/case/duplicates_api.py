"""HTTP of duplicates: what was reported near by, while somebody reports and afterwards in the back office."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from services.case import domain, queries
from services.case.api import CATEGORY, STAFF, Here, Id
from services.case.duplicates import Where, behind, near
from shared.auth import Caller, allow, public
from shared.clock import unstamp
from shared.database import now, reading
from shared.web import refuse_unknown

router = APIRouter(prefix="/api/case/v1", tags=["case"])


class Neighbour(BaseModel):
    """A case that may be the same problem: codes and place only."""

    id: str
    number: str
    state: domain.State
    category: str
    lon: float
    lat: float
    division: str
    cell: str | None
    part: str | None
    reported_at: str
    joined: int = Field(description="further reports that stand behind it")


class Near(Neighbour):
    metres: float
    hours: float = Field(description="between the two reports")


class Duplicates(BaseModel):
    """Cases that may be the same problem, likeliest first, and those already merged into it."""

    near: list[Near]
    behind: list[Neighbour]


@router.get("/duplicates", dependencies=[public("who is about to report sees what is known there")], response_model=list[Near])
def at_place(
    request: Request, here: Here,
    category: Annotated[str, Query(pattern=CATEGORY, examples=["E0101"])],
    lon: Annotated[float, Query(ge=-180, le=180, examples=[87.62])],
    lat: Annotated[float, Query(ge=-90, le=90, examples=[43.72])],
    part: Annotated[str | None, Query(pattern=CATEGORY)] = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Open cases of the same family near a place: join one of them ("me too") instead of filing again."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        return near(connection, here.extra["around"], Where(category, lon, lat, now(), part))


@router.get("/cases/{case_id}/duplicates", response_model=Duplicates)
def of_case(case_id: Id, here: Here, _: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """What may be the same problem as this case, and what was merged into it."""
    with reading(here.engine) as connection:
        row = queries.row(connection, case_id)
        what = Where(row["category"], row["lon"], row["lat"], unstamp(row["reported_at"]), row["part"], case_id)
        return {"near": near(connection, here.extra["around"], what), "behind": behind(connection, case_id)}
