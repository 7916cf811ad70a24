"""Maps our errors to RFC 9457 problem documents, in one place, at the edge."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from shared.errors import Busy, Conflict, Forbidden, Invalid, NotFound, SanjiError, Unauthenticated

logger = structlog.get_logger()
STATUS: dict[type[SanjiError], int] = {
    Invalid: 422,
    NotFound: 404,
    Conflict: 409,
    Forbidden: 403,
    Unauthenticated: 401,
    Busy: 503,
}
TITLES = {
    401: "Not signed in", 403: "Not allowed", 404: "Not found", 405: "Method not allowed", 408: "Too slow", 409: "Conflict",
    413: "Too large", 422: "Invalid input", 429: "Too many requests", 500: "Internal error", 503: "Busy",
}  # fmt: skip


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    body = {"type": f"urn:sanji:problem:{code}", "title": TITLES.get(status, "Problem"), "status": status, "detail": detail}
    body |= {k: v for k, v in more.items() if v is not None}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def status_of(error: SanjiError) -> int:
    """The HTTP status of an error, by the nearest class of it that has one."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def of_error(error: SanjiError) -> JSONResponse:
    headers = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return problem(status_of(error), error.code, error.detail, headers, field=error.field, **error.extra)


def _pointer(error: dict[str, Any]) -> str:
    """Where it is wrong; in a body that is no JSON there is no place but the body itself."""
    return "/body" if error["type"] == "json_invalid" else "/" + "/".join(map(str, error["loc"][1:]))


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""

    @app.exception_handler(SanjiError)
    async def ours(_: Request, error: SanjiError) -> JSONResponse:
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def shape(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"field": _pointer(e), "reason": e["msg"].removeprefix("Value error, ")} for e in error.errors()]
        return problem(422, "invalid", errors[0]["reason"], field=errors[0]["field"], errors=errors)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            # The framework's word for a body that it cannot even begin to read: nested without end, or no text at all.
            return problem(422, "invalid", "the body is not JSON that can be read", field="/body")
        return problem(error.status_code, f"http-{error.status_code}", str(error.detail), dict(error.headers or {}))

    @app.exception_handler(ResponseValidationError)
    async def answer(_: Request, error: ResponseValidationError) -> JSONResponse:
        # Handled here, because its own text holds the values that were to be answered, and a log must not.
        logger.error("answer_not_as_documented", fields=[".".join(map(str, e["loc"])) for e in error.errors()[:5]])
        return problem(500, "internal", "something went wrong inside; nothing is known to have been done")

    @app.exception_handler(DBAPIError)
    async def database(_: Request, error: DBAPIError) -> JSONResponse:
        # PostgreSQL tells the row at fault in its own words, which must not come into a log either.
        logger.error("database_failed", error=type(error.orig).__name__)
        return problem(500, "internal", "something went wrong inside; nothing is known to have been done")

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "internal", "something went wrong inside; nothing is known to have been done")
