"""How the built page is served: packed, kept for ever or asked for anew; and its unit tests and types, which node runs."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from services.web.statics import DIST, Statics, accepted
from tests.web.browser import ROOT, alone

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("page")]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server that has nothing but this folder."""
    app = FastAPI()
    app.mount("/", Statics(folder))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_served_packed_and_cached(built: None) -> None:
    with served(DIST) as site:
        home = httpx.get(site, headers={"Accept-Encoding": "identity"})
        assert home.headers["cache-control"] == "no-cache" and "content-encoding" not in home.headers
        script = home.text.split('src="')[1].split('"')[0]
        packed = httpx.get(site + script, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip" and "immutable" in packed.headers["cache-control"]
        assert packed.headers["content-type"].startswith("text/javascript") and packed.headers["vary"] == "Accept-Encoding"
        again = httpx.get(site + script, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]})
        assert again.status_code == 304
        with httpx.stream("GET", site + script, headers={"Accept-Encoding": "gzip, br"}) as smallest:
            assert smallest.headers["content-encoding"] == "br"
        assert accepted("br;q=0, gzip;q=0.5, *;q=x") == {"gzip"}


def test_what_is_waited_for_is_small(built: None) -> None:
    """What a reader must load before the first figure: the page without its charts, packed."""
    home = (DIST / "index.html").read_text()
    first = [p for p in (DIST / "assets").glob("*.br") if p.name.removesuffix(".br") in home]
    assert len(first) == 2, "one script and one style sheet"
    assert sum(p.stat().st_size for p in first) <= 64 * 1024


def test_says_when_it_is_not_built(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        answer = httpx.get(site)
    assert answer.status_code == 503 and "make page" in answer.text


def test_unit_tests_of_the_page() -> None:
    with alone("page"):
        done = subprocess.run(["make", "page-test"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
