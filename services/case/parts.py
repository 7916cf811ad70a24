"""The routes of the case service, put together from its parts."""

from __future__ import annotations

from fastapi import APIRouter

from services.case import api, calendar_api, push_api

PARTS: tuple[APIRouter, ...] = (
    api.router,
    push_api.router,
    calendar_api.router,
)  # fmt: skip

router = APIRouter(routes=[route for part in PARTS for route in part.routes])
