"""HTTP of the evaluation service: figures, the state of the links below, live changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.evaluation import queries
from services.evaluation.tables import QUANTITIES
from shared.auth import public
from shared.clock import civil_day, stamp
from shared.database import now
from shared.errors import Invalid
from shared.web import Runtime

router = APIRouter(prefix="/api/evaluation/v1", tags=["evaluation"])
OPEN_FIGURES = "figures without persons are published: they hold administrations to account"
FORMULA = {
    "zh": "按期结案率 = 按期结案数 ÷ (结案数 + 超期未结数)",
    "en": "on-time rate = closed on time ÷ (closed + overdue and still open)",
}


def runtime(request: Request) -> Runtime:
    found: Runtime = request.app.state.runtime
    return found


Here = Annotated[Runtime, Depends(runtime)]


@router.get("/figures", dependencies=[public(OPEN_FIGURES)])
def figures(
    request: Request, here: Here,
    by: Annotated[str, Query(description="dimensions, by comma", examples=["origin,category"])] = "origin",
    category: str | None = None,
    node: Annotated[str | None, Query(description="only this node's subtree")] = None,
    first_day: Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}-\d{2}$")] = None,
    last_day: Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}-\d{2}$")] = None,
) -> Response:  # fmt: skip
    """Figures by any of the dimensions; an unknown dimension or filter is refused, never ignored."""
    known = {p.alias for p in request.scope["route"].dependant.query_params}
    if strange := set(request.query_params) - known:
        raise Invalid(f"no such filter; known are: {', '.join(sorted(known))}", field=f"/{min(strange)}")
    dimensions = by.split(",")
    if strange := set(dimensions) - set(queries.DIMENSIONS):
        raise Invalid(f"no dimension {min(strange)}; known are: {', '.join(queries.DIMENSIONS)}", field="/by")
    origins = queries.below(here.node, node) if node else None
    wanted = queries.Filter(origins, category, first_day, last_day)
    rows = queries.figures(here.engine, dimensions, wanted, stamp(now()))
    body = orjson.dumps({"as_of": stamp(now())[:16], "formula": FORMULA, "items": rows})
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, media_type="application/json", headers={"ETag": etag})


@router.get("/overview", dependencies=[public(OPEN_FIGURES)])
def overview(here: Here, last_days: Annotated[int, Query(ge=1, le=3660)] = 30) -> dict[str, Any]:
    """What the page shows: totals, one row a child, the trend, where the cases come from."""
    at = stamp(now())
    first = civil_day(now() - timedelta(days=last_days), here.node.tz)
    children = [
        {
            "code": c.code,
            "names": c.names.model_dump(),
            "totals": queries.total(here.engine, queries.below(here.node, c.code), at),
        }
        for c in here.node.children()
    ]
    trend = queries.figures(here.engine, ["day"], queries.Filter(first_day=first), at)
    kinds = queries.figures(here.engine, ["provenance"], queries.Filter(), at)
    return {
        "as_of": at, "totals": queries.total(here.engine, None, at), "children": children,
        "trend": [{k: r[k] for k in ("day", *QUANTITIES)} for r in trend],
        "provenance": [{"provenance": r["provenance"], "reported": r["reported"]} for r in kinds],
        "on_time_formula": FORMULA,
    }  # fmt: skip


@router.get("/links", dependencies=[public(OPEN_FIGURES)])
def links(here: Here) -> dict[str, Any]:
    """Each log heard from below: last heard, lag, verified up to which sequence, quarantine."""
    ahead = here.bus.ahead if here.bus else {}
    return {"links": queries.links(here.engine, here.node, ahead)}


@router.get("/live", dependencies=[public(OPEN_FIGURES)])
async def live(request: Request, here: Here) -> StreamingResponse:
    """Server-sent events: `changed` whenever figures moved, at most once in half a second."""

    async def stream() -> AsyncIterator[bytes]:
        seen = -1
        while not await request.is_disconnected():
            current = here.extra.get("changes", 0)
            yield (
                f"event: changed\ndata: {orjson.dumps({'seq': current}).decode()}\n\n".encode() if current != seen else b": \n\n"
            )
            seen = current
            await asyncio.sleep(0.5)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
