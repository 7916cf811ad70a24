"""Serves the built page: pre-compressed where the client takes it, for ever where the name carries a hash, fresh otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

DIST = Path(__file__).resolve().parent / "app" / "dist"
ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".json": "application/json",
}  # fmt: skip
"""Said here, because the machine's own list of types may lack them or say otherwise."""
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def accepted(header: str) -> set[str]:
    """The encodings an Accept-Encoding header allows; `q=0` forbids one."""
    found = set()
    for part in header.split(","):
        name, _, parameter = part.partition(";")
        quality = parameter.strip().removeprefix("q=")
        try:
            refused = bool(parameter) and float(quality) == 0
        except ValueError:
            refused = True
        if name.strip() and not refused:
            found.add(name.strip().lower())
    return found


class Statics(StaticFiles):
    """The page at `/` of a node; mount it after every route of the API."""

    def __init__(self, directory: Path = DIST) -> None:
        super().__init__(directory=directory, html=True, check_dir=False)
        self.root = directory
        # A page that is not built yet is said below; the base class would raise instead.
        self.config_checked = True

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.startswith("api/"):
            raise HTTPException(404)
        if not (self.root / "index.html").is_file():
            return PlainTextResponse("The page is not built. Run `make page`.\n", 503)
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        plain = Path(full_path)
        chosen, encoding = self._smallest(plain, Headers(scope=scope).get("accept-encoding", ""))
        response = FileResponse(
            chosen, status_code, media_type=TYPES.get(plain.suffix), stat_result=stat_result if chosen == plain else chosen.stat()
        )
        response.headers["Vary"] = "Accept-Encoding"
        if encoding:
            response.headers["Content-Encoding"] = encoding
        # Vite puts a hash of the content into each name under assets/.
        hashed = plain.parent.name == "assets"
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        if plain.suffix == ".html":
            response.headers["Content-Security-Policy"] = POLICY
            response.headers["Referrer-Policy"] = "same-origin"
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response

    @staticmethod
    def _smallest(plain: Path, header: str) -> tuple[Path, str | None]:
        allowed = accepted(header)
        for encoding, suffix in ENCODINGS:
            packed = plain.with_name(plain.name + suffix)
            if encoding in allowed and packed.is_file():
                return packed, encoding
        return plain, None
