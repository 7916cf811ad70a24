"""The page's process where each service runs by itself: what it passes on and back, unchanged, at once, and to the end."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.migrate import migrate
from deploy.routers import ROUTERS
from services.web.front import Front
from shared.database import open_engine
from shared.settings import Limits
from shared.web import Runtime, create
from tests import served
from tests.served import LEAF, Served, refused

ODD = (
    b"/api/echo/v1/a?x=1&x=2&y=%2B+%20&z=%E6%A1%88&e=", b"/api/echo/v1/a%2Fb/%E6%A1%88/c%20d", b"/api/echo/v1/../../secret/..",
    b"/api/echo/v1/a//b/./c", b"/api/echo/v1/q?a=|{}^`[]&b=%7c%zz&c='\"", b"/api/echo/v1/%00", b"/api/echo/v1/p?", b"/api/echo",
)  # fmt: skip


@dataclass
class Echo:
    """A service behind: tells what reached it, or streams, stalls and breaks off as it is asked to."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    streams: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.asked.append({**scope, "body": body, "complete": message["type"] == "http.request"})
        await getattr(self, scope["path"].rpartition("/")[2].partition("-")[0], self.answer)(receive, send)

    async def answer(self, receive: Any, send: Any) -> None:
        cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        headers = [(b"x-mine", b"1"), *cookies, (b"etag", b'W/"t"'), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 418, "headers": headers})
        await send({"type": "http.response.body", "body": b"\x00\xff\r\n"})

    async def packed(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-encoding", b"gzip")]})
        await send({"type": "http.response.body", "body": gzip.compress(b"packed" * 500)})

    async def none(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b'W/"t"')]})
        await send({"type": "http.response.body", "body": b""})

    async def stream(self, receive: Any, send: Any) -> None:
        self.streams += 1
        leaving = asyncio.ensure_future(receive())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
            for n in range(10_000):
                await send({"type": "http.response.body", "body": f"data: {n}\n\n".encode(), "more_body": True})
                if (await asyncio.wait({leaving}, timeout=0.1))[0]:
                    return
        finally:
            leaving.cancel()
            self.streams -= 1

    async def broken(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("in the middle")


@dataclass
class Town:
    """The page's process as it is deployed, before an echo, a real case service, and one that is down."""

    client: httpx.Client
    echo: Echo
    case: Served


def web(base: Path, others: dict[str, str], **limits: Any) -> Any:
    """The page's app as deploy.node builds it."""
    engine = open_engine(f"sqlite:///{base}/node.db")
    runtime: Runtime = served.start(served.settings(base, LEAF, limits=Limits(**limits)), engine)
    app = create(runtime, "web", [ROUTERS["web"]])
    app.mount("/api", Front(others))
    return app


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    echo = Echo()
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        engine = open_engine(f"sqlite:///{tmp_path}/node.db")
        migrate(engine)
        behind = served.start(served.settings(tmp_path, LEAF), engine)
        case = stack.enter_context(served.listening(served.app(behind, "case")))
        others = {"echo": stack.enter_context(served.listening(echo)), "case": case, "down": f"http://127.0.0.1:{port}"}
        url = stack.enter_context(served.listening(web(tmp_path, others)))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=10))
        yield Town(client, echo, Served(behind, client))


def test_a_request_arrives_as_it_was_sent(town: Town) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "REPORT"):
        body = b"" if method in ("GET", "OPTIONS") else bytes(range(256)) * 40
        headers = [("X-Mine", "é"), ("x-twice", "1"), ("x-twice", "2"), ("Authorization", "Bearer x"), ("ce-id", "a b")]
        town.client.request(method, "/api/echo/v1/x?a=1", content=body, headers=[(k, v.encode()) for k, v in headers])
        asked = town.echo.asked[-1]
        assert (asked["method"], asked["body"], asked["query_string"]) == (method, body, b"a=1")
        found = [(k.decode(), v.decode()) for k, v in asked["headers"]]
        names = {k.lower() for k, _ in headers}
        assert [f for f in found if f[0] in names] == [(k.lower(), v) for k, v in headers]
        assert dict(found)["x-forwarded-for"] == "127.0.0.1"


def test_paths_and_questions_are_passed_on_byte_for_byte(town: Town) -> None:
    address = town.client.base_url
    for target in ODD:
        with socket.create_connection((address.host, address.port or 80), timeout=10) as line:
            line.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while block := line.recv(4096):
                answer += block
        assert b" 418 " in answer.split(b"\r\n")[0], (target, answer)
        asked = town.echo.asked[-1]
        sent = asked["raw_path"] + (b"?" + asked["query_string"] if asked["query_string"] else b"")
        assert sent == target.removesuffix(b"?")


def test_nothing_is_asked_for_that_the_caller_did_not_ask_for(town: Town) -> None:
    """Above all no compression: whoever does not say that he takes it could not read the answer."""
    address = town.client.base_url
    with socket.create_connection((address.host, address.port or 80), timeout=10) as line:
        line.sendall(b"GET /api/echo/v1/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.9.8.7\r\nConnection: close\r\n\r\n")
        while line.recv(4096):
            pass
    headers = dict(town.echo.asked[-1]["headers"])
    assert set(headers) <= {b"host", b"connection", b"x-forwarded-for"}, headers
    # The tests' own address is that of a trusted proxy, so that what it says of the caller is believed, once.
    assert headers[b"x-forwarded-for"] == b"10.9.8.7"


def test_an_answer_comes_back_as_it_was_given(town: Town) -> None:
    answer = town.client.get("/api/echo/v1/x")
    assert (answer.status_code, answer.content) == (418, b"\x00\xff\r\n")
    assert (answer.headers["x-mine"], answer.headers["etag"]) == ("1", 'W/"t"')
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"] and answer.headers["x-content-type-options"] == "nosniff"
    packed = town.client.get("/api/echo/v1/packed", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and packed.text == "packed" * 500
    unchanged = town.client.get("/api/echo/v1/none")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    head = town.client.head("/api/echo/v1/x")
    assert (head.status_code, head.content) == (418, b"")
    with pytest.raises(httpx.RemoteProtocolError):
        town.client.get("/api/echo/v1/broken")
    assert town.client.get("/api/echo/v1/x").status_code == 418, "and the next one is answered"


def test_events_come_at_once(town: Town) -> None:
    with town.client.stream("GET", "/api/echo/v1/stream", headers={"accept-encoding": "gzip"}) as answer:
        begun, found = time.monotonic(), ""
        for text in answer.iter_text():
            found += text
            if "data: 4\n" in found:
                break
        assert answer.headers["content-type"] == "text/event-stream" and 0.2 < time.monotonic() - begun < 3


def test_who_leaves_a_stream_frees_its_place(town: Town) -> None:
    """Many pages that are opened and closed again must not use up the ways to the service."""
    for _ in range(12):
        with town.client.stream("GET", "/api/echo/v1/stream") as answer:
            next(answer.iter_raw())
    until = time.monotonic() + 5
    while town.echo.streams and time.monotonic() < until:
        time.sleep(0.05)
    assert town.echo.streams == 0


def test_half_a_body_is_not_passed_on(town: Town) -> None:
    address = town.client.base_url
    with socket.create_connection((address.host, address.port or 80), timeout=10) as line:
        line.sendall(b"POST /api/echo/v1/half HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nfirst line\n")
        time.sleep(0.2)
    time.sleep(0.3)
    town.client.get("/api/echo/v1/x")
    assert [a["path"] for a in town.echo.asked] == ["/api/echo/v1/x"]


def test_a_service_that_is_down_or_unknown(town: Town) -> None:
    answer = town.client.get("/api/down/v1/x")
    assert "down" in refused(answer, 503)["detail"] and answer.headers["retry-after"] == "1"
    refused(town.client.post("/api/down/v1/x", content=b"x"), 503)
    for path in ("/api/nothing/v1/x", "/api/", "/api/Echo/v1/x", "/api//echo"):
        refused(town.client.get(path), 404)


def test_the_guards_of_the_service_behind_hold(town: Town) -> None:
    place = {"category": "E0101", "lon": 87.62, "lat": 43.72}
    refused(town.client.post("/api/case/v1/cases", json=place), 401)
    made = town.client.post("/api/case/v1/cases", json=place, headers=town.case.as_("collector"))
    assert made.status_code == 201
    found = town.client.get("/api/case/v1/cases?state=reported", headers=town.case.as_("auditor"))
    assert [r["id"] for r in found.json()["items"]] == [made.json()["id"]]
    refused(town.client.get("/api/case/v1/cases?stat=x", headers=town.case.as_("auditor")), 422, "/stat")
    refused(town.client.post("/api/case/v1/events", content=b"x" * 9_000_000, headers=town.case.as_platform()), 413)


def test_the_limits_are_those_of_each_caller(tmp_path: Path) -> None:
    """Two callers behind the page's process have two counts at the service, not that process's one."""
    engine = open_engine(f"sqlite:///{tmp_path}/node.db")
    migrate(engine)
    behind = served.start(served.settings(tmp_path, LEAF, limits=Limits(nameless="3/minute")), engine)
    with ExitStack() as stack:
        case = stack.enter_context(served.listening(served.app(behind, "case")))
        client = stack.enter_context(httpx.Client(base_url=stack.enter_context(served.listening(web(tmp_path, {"case": case})))))
        for address in ("10.0.0.1", "10.0.0.2"):
            found = [client.get("/api/case/v1/workflow", headers={"x-forwarded-for": address}).status_code for _ in range(4)]
            assert found == [200, 200, 200, 429], address
