"""The routes of the case service, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI

from services.case import (
    api,
    audit_api,
    calendar_api,
    catalogue_api,
    comments_api,
    contacts_api,
    delivery_api,
    desk_api,
    duplicates_api,
    enclosures_api,
    lists_api,
    notices_api,
    participation_api,
    photos_api,
    push_api,
    reporters_api,
    routing_api,
)

PARTS: tuple[APIRouter, ...] = (
    api.router,
    duplicates_api.router,
    photos_api.router,
    push_api.router,
    participation_api.router,
    calendar_api.router,
    audit_api.router,
    comments_api.router,
    notices_api.router,
    delivery_api.router,
    reporters_api.router,
    contacts_api.router,
    enclosures_api.router,
    desk_api.router,
    lists_api.router,
    catalogue_api.router,
    routing_api.router,
)  # fmt: skip


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """What the parts do in the background, each by its own router's lifespan."""
    async with AsyncExitStack() as stack:
        for part in PARTS:
            await stack.enter_async_context(part.lifespan_context(app))
        yield


router = APIRouter(routes=[route for part in PARTS for route in part.routes], lifespan=life)
