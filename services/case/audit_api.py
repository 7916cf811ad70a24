"""HTTP of the audit log: who did what to which thing, when and why; for those whose office it is to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, Field

from services.case.api import Here
from services.case.texts import CODE_PATTERN
from shared import audit
from shared.auth import Caller, allow
from shared.clock import stamp
from shared.database import reading
from shared.errors import Invalid
from shared.web import Runtime, refuse_unknown

PAUSE = 10.0


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Writes the head of the log down beside the database, every ten seconds."""
    here: Runtime = app.state.runtime

    async def turn() -> None:
        await asyncio.to_thread(audit.write_down, here.engine, here.node.audit_head)
        await asyncio.sleep(PAUSE)

    here.loops.start("audit", turn)
    yield
    here.loops.drop("audit")


router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)
Code = Annotated[str | None, Query(max_length=80, pattern=CODE_PATTERN)]
Moment = Annotated[
    str | None,
    Query(description="instant with offset", examples=["2026-03-01T08:00:00+08:00"], json_schema_extra={"format": "date-time"}),
]


class Entry(BaseModel):
    """One entry of the audit log; `chain` proves it together with all before it."""

    id: int
    at: str
    actor: str = Field(description="subject of a token, or key; `reporter`: whoever has a tracking code, `node`: its own timers")
    roles: list[str]
    action: str
    kind: str
    subject: str
    reason: str | None
    outcome: str
    detail: dict[str, Any]
    chain: str


class Entries(BaseModel):
    """A page of the audit log, the newest first; `next` is `before` of the following page, null on the last."""

    items: list[Entry]
    next: int | None


@router.get("/audit", response_model=Entries)
def entries(
    request: Request, here: Here, _: Annotated[Caller, allow("auditor", "administrator")],
    actor: Annotated[str | None, Query(max_length=120)] = None,
    action: Code = None, kind: Code = None, subject: Code = None,
    since: Moment = None,
    until: Moment = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:  # fmt: skip
    """The audit log: every change of state and every opening of protected data. Nothing can be changed in it or taken out."""
    refuse_unknown(request)
    sought = audit.Sought(actor, action, kind, subject, _instant("since", since), _instant("until", until), before, limit + 1)
    with reading(here.engine) as connection:
        found = audit.page(connection, sought)
    items = found[:limit]
    return {"items": items, "next": items[-1]["id"] if len(found) > limit else None}


def _instant(name: str, text: str | None) -> str | None:
    try:
        return stamp(datetime.fromisoformat(text)) if text is not None else None
    except (ValueError, OverflowError):
        raise Invalid("not an instant with offset, such as 2026-03-01T08:00:00+08:00", field=f"/{name}") from None
