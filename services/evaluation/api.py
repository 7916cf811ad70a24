"""HTTP of the evaluation service: figures, the state of the links below, live changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator

from services.evaluation import queries
from services.evaluation.answers import CasePage, Figures, Links, Overview
from services.evaluation.domain import State
from shared.auth import Caller, allow, public
from shared.clock import civil_day, stamp
from shared.database import now
from shared.errors import Invalid
from shared.listing import Wanted, answer, documented, tagged
from shared.web import Runtime, refuse_unknown

router = APIRouter(prefix="/api/evaluation/v1", tags=["evaluation"])
OPEN_FIGURES = "figures without persons are published: they hold administrations to account"
FORMULA = {
    "zh": "按期结案率 = 按期结案数 ÷ (结案数 − 申诉免计数 + 超期未结数)",
    "en": "on-time rate = closed on time ÷ (closed − exempted by appeal + overdue and still open)",
}


async def runtime(request: Request) -> Runtime:
    # Async although it waits for nothing: what is not is sent through a thread, which costs more than the look-up.
    found: Runtime = request.app.state.runtime
    return found


def _real(day: str) -> str:
    date.fromisoformat(day)
    return day


Here = Annotated[Runtime, Depends(runtime)]
Day = Annotated[str, Query(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2026-03-01"]), AfterValidator(_real)]
Category = Annotated[str, Query(pattern="^[0-9A-Z]{2,20}$", examples=["E0101"])]


@router.get("/figures", dependencies=[public(OPEN_FIGURES)], responses=documented(Figures))
def figures(
    request: Request, here: Here,
    by: Annotated[str, Query(description="dimensions, by comma", examples=["origin,category"])] = "origin",
    category: Category | None = None,
    node: Annotated[str | None, Query(description="only this node's subtree")] = None,
    first_day: Day | None = None,
    last_day: Day | None = None,
) -> Response:  # fmt: skip
    """Figures by any of the dimensions; an unknown dimension or filter is refused, never ignored."""
    refuse_unknown(request)
    dimensions = by.split(",") if by else []
    if strange := set(dimensions) - set(queries.DIMENSIONS):
        raise Invalid(f"no dimension {min(strange)}; known are: {', '.join(queries.DIMENSIONS)}", field="/by")
    if len(set(dimensions)) < len(dimensions):
        raise Invalid("a dimension is named twice", field="/by")
    wanted = queries.Filter(queries.below(here.node, node) if node is not None else None, category, first_day, last_day)
    at = stamp(now())
    rows = queries.figures(here.engine, dimensions, wanted, at, here.extra["areas"].chain)
    body = orjson.dumps({"as_of": at[:16], "formula": FORMULA, "items": rows})
    return tagged(body, "application/json", request.headers.get("if-none-match"))


@router.get("/overview", dependencies=[public(OPEN_FIGURES)], response_model=Overview)
def overview(request: Request, here: Here, last_days: Annotated[int, Query(ge=1, le=3660)] = 30) -> dict[str, Any]:
    """What the page shows: totals, one row for each unit right below, the trend, where the cases come from."""
    refuse_unknown(request)
    today = civil_day(now(), here.node.tz)
    shown = queries.overview(here.engine, here.node, here.extra["areas"], stamp(now()), today, last_days)
    return shown | {"on_time_formula": FORMULA}


@router.get("/cases", responses=documented(CasePage, "application/geo+json", "text/csv"))
def cases(
    request: Request, here: Here, _: Annotated[Caller, allow("integrator", "evaluator", "administrator", "auditor")],
    category: Category | None = None,
    state: Annotated[State | None, Query(examples=["closed"])] = None,
    area: Annotated[str | None, Query(max_length=20, description="a division and all within it")] = None,
    reported_from: Annotated[str | None, Query(description="instant with offset")] = None,
    reported_to: str | None = None,
    changed_since: Annotated[str | None, Query(description="by when this node learnt of the change")] = None,
    bbox: Annotated[str | None, Query(description="west,south,east,north in degrees", examples=["87.5,43.7,87.7,43.9"])] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    format: Literal["json", "geojson", "csv"] = "json",
) -> Response:  # fmt: skip
    """De-identified cases of the whole subtree: codes, instants and the place of the problem; paged in order of change."""
    refuse_unknown(request)
    wanted = Wanted(category, state, area, reported_from, reported_to, changed_since, bbox, cursor, limit)
    rows, following = queries.listed(here.engine, wanted, here.extra["areas"].chain)
    return answer(rows, queries.CASE_COLUMNS, following, format, request.headers.get("if-none-match"))


@router.get("/links", dependencies=[public(OPEN_FIGURES)], response_model=Links)
def links(here: Here) -> dict[str, Any]:
    """Each log heard from below: last heard, lag, verified up to which sequence, quarantine."""
    return {"links": queries.links(here.engine, here.node, here.bus.ahead)}


@router.get("/live", dependencies=[public(OPEN_FIGURES)], responses={200: {"content": {"text/event-stream": {}}}})
async def live(request: Request, here: Here) -> StreamingResponse:
    """Server-sent events: `changed` whenever figures moved, at most once in half a second."""

    async def stream() -> AsyncIterator[bytes]:
        seen = -1
        while not await request.is_disconnected() and not here.leaving():
            current = here.extra.get("changes", 0)
            yield (
                f"event: changed\ndata: {orjson.dumps({'seq': current}).decode()}\n\n".encode() if current != seen else b": \n\n"
            )
            seen = current
            await asyncio.sleep(0.5)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
