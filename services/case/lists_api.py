"""HTTP of lists of cases: pages of them, the full-text search, and whole lists as files."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine

from services.case import lists, postings
from services.case.answers import Case, CasePage
from services.case.api import STAFF, Here
from services.case.export import MEDIA, MOST, Kind, Row, write
from services.case.lists import Filters
from services.case.queries import PUBLIC
from shared import audit
from shared.auth import Caller, allow
from shared.database import Tx, reading
from shared.errors import Busy, Forbidden
from shared.listing import answer, documented
from shared.web import Runtime

PAUSE = 1.0


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Writes each block of the search's index once it is full; the cutting holds up nobody who writes."""
    here: Runtime = app.state.runtime

    async def turn() -> None:
        sheaf = await asyncio.to_thread(_next, here.engine)
        if sheaf is None:
            await asyncio.sleep(PAUSE)
        else:
            await asyncio.wrap_future(here.writer.submit(lambda tx: postings.put(tx.connection, sheaf)))

    here.loops.start("search", turn)
    yield
    here.loops.drop("search")


def _next(engine: Engine) -> postings.Sheaf | None:
    with reading(engine) as connection:
        return next((postings.gather(connection, block) for block in postings.full(connection)), None)


router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)
AT_ONCE = threading.BoundedSemaphore(2)
"""Files that are written at the same time: each keeps a core busy for seconds."""
CHUNK = 64 * 1024
Cursor = Annotated[str | None, Field(max_length=200, description="`next` of the page before")]


class ListWanted(Filters):
    """A page of a list."""

    cursor: Cursor = None
    limit: int = Field(100, ge=1, le=1000)
    format: Literal["json", "geojson", "csv"] = "json"


class Sought(Filters):
    """A page of what is found by its text."""

    text: str = Field(max_length=200, examples=["路灯 人民路"], description="words that must all be there")
    cursor: Cursor = None
    limit: int = Field(50, ge=1, le=200)


class Hit(Case):
    """A case that was found; `snippet` is the place in its text that shows why, null where its number or a code does."""

    snippet: str | None


class Hits(BaseModel):
    """Found cases, the newest first. A page may be shorter than its limit, or empty, while `next` leads on."""

    model_config = ConfigDict(extra="forbid")
    items: list[Hit]
    next: str | None


FILE = {
    200: {
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA.values()},
        "headers": {
            "X-Rows": {"schema": {"type": "integer"}, "description": "rows of the file"},
            "X-Row-Limit": {"schema": {"type": "integer"}, "description": "a longer list is refused"},
        },
        "description": "the whole list; times are those of the node's zone",
    }
}


@router.get("/cases", responses=documented(CasePage, "application/geo+json", "text/csv"))
def many(
    request: Request, here: Here, caller: Annotated[Caller, allow(*STAFF, "integrator")], wanted: Annotated[ListWanted, Query()]
) -> Response:  # fmt: skip
    """De-identified cases: codes, instants and the place of the problem. Paged by `cursor`; the filters all hold together.

    What people wrote is searched (`text`) by this node's staff only. A page may be shorter than its limit, or empty, while `next`
    leads on.
    """
    if wanted.text is not None and not caller.roles & {*STAFF}:
        raise Forbidden("what people wrote is searched by this node's staff only", field="/text")
    with reading(here.engine) as connection:
        rows, following = lists.page(
            connection, wanted, here.extra["around"].chain, here.now(), wanted.cursor, wanted.limit
        )  # fmt: skip
    return answer(rows, PUBLIC, following, wanted.format, request.headers.get("if-none-match"))


@router.get("/search", response_model=Hits, dependencies=[allow(*STAFF)])
def search(here: Here, wanted: Annotated[Sought, Query()]) -> dict[str, Any]:
    """Find cases by what was reported and where, by number, category or part, in Chinese from one character on.

    A word is found by its begin, digits also by their end. Reporters are not in it.
    """
    with reading(here.engine) as connection:
        rows, following = lists.found(
            connection, wanted, here.extra["around"].chain, here.now(), wanted.cursor, wanted.limit
        )  # fmt: skip
    return {"items": rows, "next": following}


@router.get("/cases.{kind}", response_class=Response, responses=FILE)  # type: ignore[arg-type]
def as_file(kind: Kind, here: Here, caller: Annotated[Caller, allow(*STAFF)], wanted: Annotated[Filters, Query()]) -> Response:
    """A whole list as a file for a spreadsheet, CSV or Excel. The audit log keeps who took it and how many rows."""
    chain, at = here.extra["around"].chain, here.now()
    return exported(here, caller, kind, "cases", wanted, lambda c: lists.everything(c, wanted, chain, at))


def exported(
    here: Runtime, who: Caller, kind: Kind, name: str, wanted: BaseModel, rows: Callable[[Connection], Iterable[Row]]
) -> Response:
    """Write a list into a file, note it in the audit log, and send it. Raises Invalid for a list that is too long, Busy."""
    at, zone = here.now(), here.extra["around"].zone
    # What somebody looked for may be what a person wrote: the audit log keeps that he did, not the words.
    said = wanted.model_dump(exclude_none=True, mode="json") | ({"text": "…"} if getattr(wanted, "text", None) else {})
    with _turn():
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is read after this has returned
        try:
            with reading(here.engine) as connection:
                count = write(file, kind, rows(connection), zone, at)
        except BaseException:
            file.close()
            raise
    detail = {"rows": count, "format": kind, "filters": said}

    def noted(tx: Tx) -> int:
        return audit.note(tx, who.name, who.roles, "export", "list", name, detail=detail)

    here.writer.run(noted)
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{at.astimezone(zone):%Y%m%d-%H%M}.{kind}"',
        "X-Rows": str(count), "X-Row-Limit": str(MOST), "Cache-Control": "no-store",
    }  # fmt: skip
    return StreamingResponse(_read(file), headers=headers, media_type=MEDIA[kind])


@contextmanager
def _turn() -> Iterator[None]:
    if not AT_ONCE.acquire(blocking=False):
        raise Busy("other files are being written", retry_after=5)
    try:
        yield
    finally:
        AT_ONCE.release()


def _read(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK):
            yield chunk
