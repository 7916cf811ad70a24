"""Which routes each service has, and the documents of them that a node answers: one a service, and one of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

import services.case.parts
import services.evaluation.api
import services.grid.api
import services.web.api
from deploy.openapi import describe
from shared.web import health

ROUTERS: dict[str, APIRouter] = {
    "case": services.case.parts.router,
    "grid": services.grid.api.router,
    "evaluation": services.evaluation.api.router,
    "web": services.web.api.router,
}
ABOUT = "The same interface at every node, whatever its place: a node answers for its own area and for all below it."


@cache
def openapi(*names: str) -> dict[str, Any]:
    """The OpenAPI document of these services together with health; of all of them without names."""
    title = f"Sanji {' '.join(names)}".strip()
    return describe(title, [*(ROUTERS[name] for name in names or ROUTERS), health()], ABOUT)


def document(app: FastAPI, wanted: Iterable[str]) -> None:
    """Let `app` answer /openapi.json (everything a node offers) and /api/<service>/v1/openapi.json of its own services."""
    app.openapi = openapi  # type: ignore[method-assign]
    for name in wanted:
        app.add_route(f"/api/{name}/v1/openapi.json", _answer(name), include_in_schema=False)


def _answer(name: str) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        return JSONResponse(openapi(name))

    return answer
