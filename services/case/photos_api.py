"""HTTP of photos: adding one to a case, the list of them, the pictures themselves, and withholding one from view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from contracts.base import Instant
from services.case import forms, photos
from services.case.api import STAFF, Here, Id
from services.case.images import Cleaners
from services.case.photos import Kind, Shot, Sweeping
from services.case.texts import Plain
from shared import audit
from shared.auth import Caller, allow
from shared.database import now, reading
from shared.errors import Busy, Forbidden, Invalid
from shared.objects import Objects, open_objects
from shared.web import MAX_BODY, Runtime, refuse_unknown

ADDING = ("collector", "acceptor", "department", "handler", "checker", "integrator")
JUDGING = ("acceptor", "shift_supervisor", "administrator")
"""Who may withhold a photo, and see one that is withheld."""
IN_MEMORY, PATIENCE = 32 * 1024 * 1024, 10.0
"""Bytes of photos that may be on their way at once, and seconds for which one more waits for room."""


class Door:
    """Lets in as many bodies as there is memory for; the rest waits on its connection, unread."""

    def __init__(self, bound: int = IN_MEMORY, patience: float = PATIENCE) -> None:
        self._left, self._patience = bound, patience

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        """Room for `size` bytes while the context lasts. Raises Busy where none comes free in time."""
        until = monotonic() + self._patience
        while self._left < size:
            if monotonic() >= until:
                raise Busy("more photos are on their way than this node can take", retry_after=5)
            await asyncio.sleep(0.02)
        self._left -= size
        try:
            yield
        finally:
            self._left += size


@dataclass
class Desk:
    """What the routes of photos share in a process: the store, the cleaning, the room for what comes in, the sweep."""

    objects: Objects
    sweeping: Sweeping
    cleaners: Cleaners = field(default_factory=Cleaners)
    door: Door = field(default_factory=Door)


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Opens the store, and sweeps up what no photo came to name."""
    here: Runtime = app.state.runtime
    objects = open_objects(here.node, "photos")
    here.extra["photos"] = desk = Desk(objects, Sweeping(here.engine, objects))
    here.loops.start("photos", desk.sweeping.turn)
    yield
    here.loops.drop("photos")
    desk.cleaners.close()


def desk_of(here: Runtime) -> Desk:
    found: Desk = here.extra["photos"]
    return found


router = APIRouter(prefix="/api/case/v1", tags=["case"], lifespan=life)
PhotoId = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z-]+$", examples=["0196a3c4-7f00-7000-8000-000000000000"])]
AFTER_LOOK = {"Cache-Control": "private, no-cache"}
"""Kept by whoever looked at it, but asked for again each time: it may have been withheld meanwhile."""
HARMLESS = {
    "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


class NewPhoto(BaseModel):
    """What the texts of the form say of the photo."""

    model_config = ConfigDict(extra="forbid")
    kind: Kind
    lon: float | None = Field(None, ge=-180, le=180, allow_inf_nan=False, description="where it was taken, WGS 84 degrees")
    lat: float | None = Field(None, ge=-90, le=90, allow_inf_nan=False)
    taken_at: Instant | None = None


class Photo(BaseModel):
    """A photo of a case: what is known of it, and the size of its picture."""

    id: str
    kind: Kind
    digest: str = Field(description="SHA-256 of the picture")
    width: int
    height: int
    bytes: int
    lon: float | None
    lat: float | None
    taken_at: str | None
    added_at: str
    added_by_role: str
    withheld: bool
    withheld_reason: str | None


class PhotoList(BaseModel):
    """The photos of a case in the order in which they came; those withheld are named, and not shown to everybody."""

    items: list[Photo]


class Withholding(BaseModel):
    """Why a photo is taken out of view, or brought back."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: Plain(500, 1)  # type: ignore[valid-type]
    withheld: bool = Field(True, description="false brings it back into view")


FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object", "required": ["file", "kind"], "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary",
                                 "description": f"JPEG, PNG or WebP; the whole form has at most {MAX_BODY} bytes"},
                        **{name: {k: v for k, v in shape.items() if k not in ("title", "default")}
                           for name, shape in NewPhoto.model_json_schema()["properties"].items()},
                    },
                },
                "encoding": {"file": {"contentType": "image/jpeg, image/png, image/webp"}},
            }
        },
    }
}  # fmt: skip
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the picture", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "the caller has it already"},
}


@router.post("/cases/{case_id}/photos", status_code=201, response_model=Photo, openapi_extra=FORM)
async def add(case_id: Id, request: Request, here: Here, caller: Annotated[Caller, allow(*ADDING)]) -> dict[str, Any]:
    """Add a photo to a case: its pixels are written anew, everything else in the file is thrown away. Repeating is safe."""
    desk = desk_of(here)
    async with desk.door.room(_size(request)):
        form = await forms.read(request, NewPhoto.model_fields)
        shot = _shot(form.texts)
        await run_in_threadpool(_expect, here, case_id, shot)
        cleaned = await asyncio.wrap_future(desk.cleaners.submit(form.file))
    stored = await run_in_threadpool(photos.keep, desk.objects, cleaned)
    work = partial(photos.add, case_id=case_id, stored=stored, shot=shot, who=caller, roles=frozenset(ADDING))
    row = await asyncio.wrap_future(here.writer.submit(work))
    await run_in_threadpool(photos.make_sure, desk.objects, stored, cleaned)
    return row


def _size(request: Request) -> int:
    """How long the body says that it is; one that does not say may be as long as any."""
    declared = request.headers.get("content-length", "")
    return min(int(declared), MAX_BODY) if declared.isdigit() else MAX_BODY


def _shot(texts: dict[str, str]) -> Shot:
    try:
        said = NewPhoto.model_validate_strings(texts)
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(first["msg"], field="/" + "/".join(map(str, first["loc"]))) from None
    return Shot(said.kind, said.lon, said.lat, said.taken_at)


def _expect(here: Runtime, case_id: str, shot: Shot) -> None:
    """Refuse before the pixels are looked at what is refused whatever they show."""
    with reading(here.engine) as connection:
        photos.check(connection, case_id, shot, now())


@router.get("/cases/{case_id}/photos", response_model=PhotoList)
def listed(request: Request, case_id: Id, here: Here, _: Annotated[Caller, allow(*STAFF)]) -> dict[str, Any]:
    """The photos of a case."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        return {"items": photos.listed(connection, case_id)}


@router.get("/cases/{case_id}/photos/{photo_id}", response_class=Response, responses=PICTURE)
def picture(request: Request, case_id: Id, photo_id: PhotoId, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> Response:
    """The picture, at most 2048 pixels on its longer side."""
    return _show(request, here, case_id, photo_id, caller, "digest")


@router.get("/cases/{case_id}/photos/{photo_id}/thumb", response_class=Response, responses=PICTURE)
def thumb(request: Request, case_id: Id, photo_id: PhotoId, here: Here, caller: Annotated[Caller, allow(*STAFF)]) -> Response:
    """A small picture, at most 320 pixels on its longer side."""
    return _show(request, here, case_id, photo_id, caller, "thumb")


def _show(
    request: Request, here: Runtime, case_id: str, photo_id: str, caller: Caller, which: Literal["digest", "thumb"]
) -> Response:
    """The picture or 304. One that is withheld is shown to those who judge that, and the audit log says who looked."""
    refuse_unknown(request)
    with reading(here.engine) as connection:
        row = photos.one(connection, case_id, photo_id)
    if row["withheld"]:
        if not caller.roles.intersection(JUDGING):
            raise Forbidden("this photo is withheld from view")
        detail = {"photo": photo_id}
        here.writer.run(lambda tx: audit.note(tx, caller.name, caller.roles, "view_withheld", "case", case_id, detail=detail))
    tag = f'"{row[which]}"'
    headers = {**AFTER_LOOK, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    name = f"photo-{row['id']}{'-thumb' if which == 'thumb' else ''}.jpg"
    headers |= {"Content-Disposition": f'inline; filename="{name}"', **HARMLESS}
    return Response(desk_of(here).objects.get(row[which]), headers=headers, media_type="image/jpeg")


@router.post("/cases/{case_id}/photos/{photo_id}/withhold", response_model=Photo)
async def withhold(
    case_id: Id, photo_id: PhotoId, body: Withholding, here: Here, caller: Annotated[Caller, allow(*JUDGING)]
) -> dict[str, Any]:
    """Take a photo out of view, such as one that shows a face or a number plate, or bring it back."""
    work = partial(photos.withhold, case_id=case_id, photo_id=photo_id, reason=body.reason, who=caller, withheld=body.withheld)
    return await asyncio.wrap_future(here.writer.submit(work))
