"""HTTP of what is written beside a case: comments, templates of answers, and the printed file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.case import comments, printing, queries, templates
from services.case.answers import answered
from services.case.api import STAFF, Here, Id
from services.case.comments import Visibility
from services.case.domain import Action, State
from services.case.photos_api import desk_of
from services.case.questions import filled
from services.case.templates import Template
from services.case.texts import CODE_PATTERN, Described
from services.case.words import Language, Speech
from shared import audit
from shared.auth import Caller, allow
from shared.clock import stamp
from shared.database import Tx, reading
from shared.errors import Busy
from shared.web import Runtime, refuse_unknown

T = TypeVar("T")
router = APIRouter(prefix="/api/case/v1", tags=["case"])
WRITERS = (
    "collector", "acceptor", "shift_supervisor", "dispatcher", "department", "handler", "checker", "leader", "administrator",
)  # fmt: skip
CommentId = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z-]+$", examples=["0196a3c4-7f00-7000-8000-000000000000"])]
TemplateCode = Annotated[str, Path(max_length=40, pattern=CODE_PATTERN, examples=["rework-hint"])]
PRESSES, PATIENCE = BoundedSemaphore(2), 10.0
"""Files printed at the same time, because each takes a core; who waits longer than that is told to come again."""


class NewComment(BaseModel):
    """A plain text; public ones are read by whoever follows the report."""

    model_config = ConfigDict(extra="forbid", strict=True)
    visibility: Visibility = "internal"
    text: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(filled), Described()]


class Withdrawal(BaseModel):
    """Why a comment is taken back."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(filled), Described()]


class Comment(BaseModel):
    """A comment; of a withdrawn one the text is null but for auditors and administrators."""

    id: str
    case_id: str
    visibility: Visibility
    text: str | None
    author: str
    at: str
    version: int
    withdrawn_at: str | None
    withdrawn_by: str | None
    withdrawn_reason: str | None


class Kept(BaseModel):
    """A template as it is kept; a state of null is every one that has the action."""

    code: str
    action: Action
    state: State | None
    place: int
    title_zh: str
    title_en: str
    text_zh: str
    text_en: str
    changed_at: str
    changed_by: str


class Filled(BaseModel):
    """A template filled from a case, ready to be sent as an opinion."""

    code: str
    action: Action
    title_zh: str
    title_en: str
    text_zh: str
    text_en: str


class Removed(BaseModel):
    """What was removed."""

    removed: str


@router.get("/cases/{case_id}/comments", response_model=list[Comment])
def read(case_id: Id, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> list[dict[str, Any]]:
    """All comments on a case, internal and public, oldest first."""
    with reading(here.engine) as connection:
        return comments.listed(connection, case_id, caller)


@router.post("/cases/{case_id}/comments", status_code=201, response_model=None, responses=answered(Comment, 201))
async def add(case_id: Id, body: NewComment, here: Here, caller: Annotated[Caller, allow(*WRITERS)]) -> dict[str, Any]:
    """Comment on a case. The public is answered by the centre's desks alone."""
    return await _written(here, lambda tx: comments.add(tx, case_id, body.visibility, body.text, caller))


@router.post("/cases/{case_id}/comments/{comment_id}/withdraw", response_model=None, responses=answered(Comment))
async def withdraw(
    case_id: Id, comment_id: CommentId, body: Withdrawal, here: Here, caller: Annotated[Caller, allow(*WRITERS)]
) -> dict[str, Any]:
    """Take a comment back, by its author or by a shift supervisor; that it was there stays to be seen."""
    return await _written(here, lambda tx: comments.withdraw(tx, case_id, comment_id, body.reason, caller))


@router.get("/cases/{case_id}/templates", response_model=list[Filled])
def suggested(
    request: Request, case_id: Id, here: Here, _: Annotated[Caller, allow(*STAFF)], action: Action | None = None
) -> list[dict[str, Any]]:
    """The templates for what can be done with this case now, filled in both languages; of one action or of all."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        row = queries.row(connection, case_id)
        around, names = here.extra["around"], here.extra["areas"].names
        speeches = {language: Speech(around, names, connection, language) for language in ("zh", "en")}
        return templates.for_case(connection, row, action, speeches)


@router.get("/templates", response_model=list[Kept])
def every(here: Here, _: Annotated[Caller, allow(*STAFF)]) -> list[dict[str, Any]]:
    """All templates of this node, as they are kept."""
    with reading(here.engine) as connection:
        return templates.every(connection)


@router.put("/templates/{code}", response_model=Kept)
async def put(
    code: TemplateCode, body: Template, here: Here, caller: Annotated[Caller, allow("administrator")]
) -> dict[str, Any]:
    """Enter or change a template. Its placeholders are checked here, so that filling it cannot fail."""

    def work(tx: Tx) -> dict[str, Any]:
        found = templates.put(tx, code, body, caller.name)
        audit.note(tx, caller.name, caller.roles, "change", "template", code)
        return found

    return await _written(here, work)


@router.delete("/templates/{code}", response_model=Removed)
async def remove(code: TemplateCode, here: Here, caller: Annotated[Caller, allow("administrator")]) -> dict[str, Any]:
    """Remove a template."""

    def work(tx: Tx) -> dict[str, Any]:
        templates.remove(tx, code)
        audit.note(tx, caller.name, caller.roles, "remove", "template", code)
        return {"removed": code}

    return await _written(here, work)


async def _written(here: Runtime, work: Callable[[Tx], T]) -> T:
    return await asyncio.wrap_future(here.writer.submit(work))


@router.get(
    "/cases/{case_id}/file.pdf", response_class=Response,
    responses={200: {"content": {"application/pdf": {}}, "description": "the case file on A4 pages"}},
)  # fmt: skip
def print_file(
    request: Request, case_id: Id, here: Here, caller: Annotated[Caller, allow(*STAFF)],
    lang: Language = "zh",
    internal: Annotated[bool, Query(description="internal comments as well")] = False,
) -> Response:  # fmt: skip
    """The case file as PDF, without any of the reporter's data. Who printed it stands on it and in the audit log."""
    refuse_unknown(request)
    # Not on the loop that serves everybody: this route runs in a thread of its own.
    if not PRESSES.acquire(timeout=PATIENCE):
        raise Busy("more files are being printed than this node can take", retry_after=10)
    try:
        return _printed(here, case_id, caller, lang, internal)
    finally:
        PRESSES.release()


def _printed(here: Runtime, case_id: str, caller: Caller, lang: Language, internal: bool) -> Response:
    at = here.now()
    with reading(here.engine) as connection:
        names = here.extra["areas"].names
        file = printing.gather(connection, here.extra["around"], names, case_id, lang, internal=internal, at=at)
    made = printing.pdf(file, desk_of(here).objects.get, printed_at=stamp(at), by=caller.name)
    detail = {"lang": lang, "internal": internal, "version": file.case["version"]}
    here.writer.run(lambda tx: audit.note(tx, caller.name, caller.roles, "print", "case", case_id, detail=detail))
    # Numbers are made of codes and digits, so that this name needs no quoting of its own.
    headers = {"Content-Disposition": f'inline; filename="{file.case["number"]}.pdf"', "Cache-Control": "no-store"}
    return Response(made, media_type="application/pdf", headers=headers)
