"""HTTP of the catalogue: what is in force on a day, its editions and their differences, import and export, local additions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import AfterValidator, BeforeValidator
from starlette.concurrency import run_in_threadpool

from contracts.base import Edition as Code
from services.case import editions
from services.case.api import STAFF, Here
from services.case.catalogue import Catalogues, Edition
from services.case.catalogue_answers import (
    Brief,
    Done,
    Ending,
    InForce,
    Known,
    NewAddition,
    NewEdition,
    Report,
    Withdrawal,
)
from services.case.differences import Difference, difference
from services.case.entries import Category, next_extension
from services.case.texts import plain, written_day
from services.case.workbook import XLSX, Reading, read, written
from shared.auth import Caller, allow, public
from shared.clock import civil_day
from shared.database import Tx, now, reading
from shared.errors import Invalid, NotFound
from shared.kept import Kept
from shared.listing import documented, tagged
from shared.web import Runtime, refuse_unknown


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Keeps the data pack's edition for the cases filed under it; a pack that changed it under the same code does not start."""
    here: Runtime = app.state.runtime
    await asyncio.wrap_future(here.writer.submit(lambda tx: editions.remember(tx, kept(here))))
    yield


router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)
Date = Annotated[date, BeforeValidator(written_day)]
On = Annotated[Date | None, Query(description="civil day; today without it", examples=["2026-03-02"])]
Of = Annotated[Code | None, Query(description="code of an edition; the one in force today without it", examples=["2024-12"])]
BODY = {
    "requestBody": {
        "required": True,
        "content": {XLSX: {"schema": {"type": "string", "format": "binary", "description": "an Excel workbook"}}},
    }
}
"""The body of an import, for the interface document: the route reads it by itself."""


def kept(here: Runtime) -> Kept[Catalogues]:
    found: Kept[Catalogues] = here.extra["around"].catalogue
    return found


def known(here: Runtime) -> Catalogues:
    with reading(here.engine) as connection:
        return kept(here).get(connection)


def _today(here: Runtime) -> date:
    return date.fromisoformat(civil_day(now(), here.node.tz))


def _chosen(here: Runtime, code: str | None, field: str) -> Edition:
    """The edition of that code with the node's additions of today, or the one in force today. Raises NotFound."""
    catalogues, day = known(here), _today(here)
    if code is None:
        return catalogues.at(day)
    try:
        return catalogues.of(code, day)
    except NotFound as error:
        raise NotFound(error.detail, field=field) from None


def _brief(edition: Edition) -> dict[str, Any]:
    return {name: getattr(edition, name) for name in Brief.model_fields} | {"node": edition.node or None}


def _listed(category: Category) -> dict[str, Any]:
    return category.model_dump() | {"kind": category.kind, "family": category.family}


@router.get(
    "/catalogue", dependencies=[public("what a city deals with, and how fast, is published")], responses=documented(InForce)
)  # fmt: skip
def in_force(
    request: Request, here: Here, day: On = None,
    search: Annotated[str | None, Query(max_length=80, description="part of a code or of a name", examples=["井盖"])] = None,
) -> Response:  # fmt: skip
    """The catalogue in force on a day: classes, categories with conditions and questions, departments."""
    refuse_unknown(request)
    at = day or _today(here)
    edition = known(here).at(at)
    found = edition.categories.values() if search is None else edition.search(search)
    body = {
        "day": at, "edition": _brief(edition), "majors": [m.model_dump() for m in edition.content.majors],
        "departments": [d.model_dump() for d in edition.content.departments], "categories": [_listed(c) for c in found],
        "additions": edition.additions, "set_aside": edition.set_aside,
    }  # fmt: skip
    return tagged(orjson.dumps(body), "application/json", request.headers.get("if-none-match"))


@router.get("/catalogue/editions", response_model=Known)
def all_editions(request: Request, here: Here, _: Annotated[Caller, allow(*STAFF, "integrator")]) -> dict[str, Any]:
    """Every edition that this node knows, its additions, and the next free number of each family."""
    refuse_unknown(request)
    catalogues = known(here)
    current = catalogues.at(_today(here)).content
    free = {m.family: next_extension(current.categories, m.family) for m in current.majors if m.standard}
    return {
        "editions": [_brief(e) for e in (catalogues.base, *(p for p in catalogues.published if p.node))],
        "additions": [{"category": a.category, "valid_from": a.valid_from, "valid_to": a.valid_to} for a in catalogues.additions],
        "free": {family: code for family, code in free.items() if code},
    }


@router.get(
    "/catalogue.xlsx", response_class=Response,
    responses={200: {"content": {XLSX: {}}, "description": "a workbook of four sheets"}},
)  # fmt: skip
def exported(request: Request, here: Here, _: Annotated[Caller, allow(*STAFF, "integrator")], edition: Of = None) -> Response:
    """An edition as an Excel workbook, without what the node adds to it."""
    refuse_unknown(request)
    found = _chosen(here, edition, "/edition")
    headers = {"Content-Disposition": 'attachment; filename="catalogue.xlsx"', "X-Edition": found.code}
    return Response(written(found.own), media_type=XLSX, headers=headers)


@router.get("/catalogue/difference", response_model=Difference)
def differing(
    request: Request, here: Here, _: Annotated[Caller, allow(*STAFF, "integrator")],
    from_: Annotated[Code | None, Query(alias="from", description="code of an edition; today's without it")] = None,
    to: Of = None,
) -> Difference:  # fmt: skip
    """What changes from one edition to another."""
    refuse_unknown(request)
    return difference(_chosen(here, from_, "/from").own, _chosen(here, to, "/to").own)


@router.post("/catalogue/editions", response_model=Report)
async def publish(body: NewEdition, here: Here, _: Annotated[Caller, allow("administrator")]) -> Report:
    """Publish an edition from a day on, or only say what would differ from the one that holds then."""
    edition = Edition(body.code, body.content, body.valid_from, body.valid_to, here.node.code, body.note)
    report = await run_in_threadpool(_compared, here, edition, True)
    return report if body.dry_run else await _published(here, edition, report)


@router.post("/catalogue/import", response_model=Report, openapi_extra=BODY)
async def imported(
    request: Request, here: Here, _: Annotated[Caller, allow("administrator")],
    dry_run: Annotated[bool, Query(description="only say what would differ")] = True,
    code: Annotated[Code | None, Query(description="of the edition to publish", examples=["650102:2027"])] = None,
    valid_from: On = None,
    valid_to: Annotated[Date | None, Query(description="first day on which it holds no more")] = None,
    note: Annotated[str, AfterValidator(plain), Query(max_length=500)] = "",
    legacy: Annotated[bool, Query(description="its codes are those of the older edition that the data pack maps")] = False,
    keep: Annotated[bool, Query(description="categories that it does not name stay")] = False,
) -> Report:  # fmt: skip
    """Read a workbook by the rule of docs/CATALOGUE.md: dry, to see every error or every difference; then to publish it."""
    refuse_unknown(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != XLSX:
        raise Invalid(f"send the workbook itself as {XLSX}", field="/content-type")
    if not dry_run and (code is None or valid_from is None):
        raise Invalid("to publish needs a code and a start", field="/code" if code is None else "/valid_from")
    data, start = await request.body(), valid_from or _today(here)
    read = await run_in_threadpool(_read, here, data, start, legacy, keep)
    edition = Edition(code or "", read.content, start, valid_to, here.node.code, note)
    report = await run_in_threadpool(_compared, here, edition, code is not None)
    report = report.model_copy(update={"ignored": read.ignored, "unmapped": read.unmapped})
    return report if dry_run else await _published(here, edition, report)


def _read(here: Runtime, data: bytes, start: date, legacy: bool, keep: bool) -> Reading:
    catalogues = known(here)
    return read(data, catalogues.at(start).own, catalogues.legacy if legacy else None, keep)


def _compared(here: Runtime, edition: Edition, judge: bool) -> Report:
    """What would differ; with `judge` after all that publishing would refuse."""
    with reading(here.engine) as connection:
        catalogues = kept(here).get(connection)
        if judge:
            editions.examine(Tx(connection, here.node.code), kept(here), edition, here.node.tz)
    before = catalogues.at(edition.valid_from or _today(here))
    found = difference(before.own, edition.content)
    return Report(published=False, against=before.code, difference=found, ignored=[], unmapped=[])


async def _published(here: Runtime, edition: Edition, report: Report) -> Report:
    await asyncio.wrap_future(here.writer.submit(lambda tx: editions.publish(tx, kept(here), edition, here.node.tz)))
    return report.model_copy(update={"published": True})


@router.post("/catalogue/editions/withdraw", response_model=Done)
async def withdraw(body: Withdrawal, here: Here, _: Annotated[Caller, allow("administrator")]) -> Done:
    """Take back an edition of this node before it begins."""
    await asyncio.wrap_future(here.writer.submit(lambda tx: editions.withdraw(tx, kept(here), body.code, here.node.tz)))
    return Done()


@router.post("/catalogue/additions", status_code=201, response_model=Done)
async def add(body: NewAddition, here: Here, _: Annotated[Caller, allow("administrator")]) -> Done:
    """Add a category of the node's own, or change one; a refused number comes with the next free one."""
    await asyncio.wrap_future(
        here.writer.submit(
            lambda tx: editions.add(tx, kept(here), body.category, body.valid_from, body.note, here.node.tz)
        )
    )  # fmt: skip
    return Done()


@router.post("/catalogue/additions/end", response_model=Done)
async def end(body: Ending, here: Here, _: Annotated[Caller, allow("administrator")]) -> Done:
    """End an addition."""
    await asyncio.wrap_future(
        here.writer.submit(lambda tx: editions.end(tx, kept(here), body.category, body.valid_to, here.node.tz))
    )
    return Done()
