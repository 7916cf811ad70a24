"""HTTP of what reporters enclose 附件: photos of the problem that they reported, cleaned as all photos are."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from services.case import forms, photos, reporters
from services.case.answers import answered
from services.case.api import Here
from services.case.photos import Shot
from services.case.photos_api import desk_of
from services.case.reporters_api import CODE, TrackingCode
from shared.auth import public
from shared.database import Tx, now, reading
from shared.errors import Conflict, Invalid
from shared.web import MAX_BODY

router = APIRouter(prefix="/api/case/v1", tags=["case"])
MOST = 3
"""Photos of one reporter; the others of a case's nine are for those who look and work."""


class Enclosure(BaseModel):
    """What the form says of the photo; where and when it was taken is not asked of a citizen."""

    model_config = ConfigDict(extra="forbid")
    # What is there after the work is shown by who did it and by who checks it.
    kind: Literal["near", "far", "reference", "before"] = "near"


class Enclosed(BaseModel):
    """A photo that was taken in."""

    kind: str
    width: int
    height: int
    added_at: str


FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object", "required": ["file"], "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary",
                                 "description": f"JPEG, PNG or WebP; the whole form has at most {MAX_BODY} bytes"},
                        "kind": {"type": "string", "enum": ["near", "far", "reference", "before"]},
                    },
                },
                "encoding": {"file": {"contentType": "image/jpeg, image/png, image/webp"}},
            }
        },
    }
}  # fmt: skip


@router.post(
    "/reports/mine/photos", status_code=201, response_model=None, responses=answered(Enclosed, 201), openapi_extra=FORM,
    dependencies=[public(CODE)],
)  # fmt: skip
async def enclose(code: TrackingCode, request: Request, here: Here) -> dict[str, Any]:
    """Add a photo to one's own report: its pixels are written anew, everything else in the file is thrown away."""
    desk = desk_of(here)
    # Whose report it is before a byte of the body: nobody without a code makes this node decode anything.
    case_id = await run_in_threadpool(_mine, here, code)
    async with desk.door.room(MAX_BODY):
        form = await forms.read(request, Enclosure.model_fields)
        shot = _shot(form.texts)
        cleaned = await asyncio.wrap_future(desk.cleaners.submit(form.file))
    stored = await run_in_threadpool(photos.keep, desk.objects, cleaned)

    def work(tx: Tx) -> dict[str, Any]:
        _bounded(tx, case_id)
        return photos.attach(tx, case_id, stored, shot)

    row = await asyncio.wrap_future(here.writer.submit(work))
    await run_in_threadpool(photos.make_sure, desk.objects, stored, cleaned)
    return {name: row[name] for name in Enclosed.model_fields}


def _mine(here: Here, code: str) -> str:
    with reading(here.engine) as connection:
        case_id = reporters.case_of(connection, code)
        photos.check(connection, case_id, Shot("near"), now())
        return case_id


def _shot(texts: dict[str, str]) -> Shot:
    try:
        return Shot(Enclosure.model_validate_strings(texts).kind)
    except ValidationError as error:
        raise Invalid(error.errors()[0]["msg"], field="/kind") from None


def _bounded(tx: Tx, case_id: str) -> None:
    mine = (photos.photos.c.case_id == case_id, photos.photos.c.added_by_role == "reporter")
    if (tx.execute(select(func.count()).select_from(photos.photos).where(*mine)).scalar() or 0) >= MOST:
        raise Conflict(f"at most {MOST} photos of a report's own are kept", field="/photos")
