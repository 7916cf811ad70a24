"""What stands before every route, over real sockets: sizes, slow senders, too many requests, a full queue, a hanging issuer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import Engine, event

from shared import web
from shared.database import Tx, open_engine
from tests import served
from tests.served import PLATFORM, Limits, Served, app, listening, refused, settings, start

CASES, EVENTS = "/api/case/v1/cases", "/api/case/v1/events"
REPORT = {"category": "E0101", "lon": 87.62, "lat": 43.72}
BATCH = {"content-type": "application/cloudevents-batch+json"}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """SQLite only: nothing here depends on the database."""
    made = open_engine(f"sqlite:///{tmp_path}/node.db")
    served.migrate(made)
    return made


@contextmanager
def node(tmp_path: Path, engine: Engine, bound: int = 2000, **limits: Any) -> Iterator[Served]:
    with served.node(tmp_path, engine, bound=bound, limits=Limits(**limits)) as found:
        yield found


def raw(node: Served, head: str, *parts: bytes, pause: float = 0.0, wait: float = 10) -> tuple[int, dict[str, str], bytes]:
    """Speak HTTP by hand: the head, then each part after a pause; answers (status, headers, body) as they came."""
    address = node.client.base_url
    with socket.create_connection((address.host, address.port or 80), timeout=wait) as line:
        line.sendall(head.replace("\n", "\r\n").encode() + b"Host: x\r\n\r\n")
        for part in parts:
            time.sleep(pause)
            try:
                line.sendall(part)
            except OSError:
                break
        found = b""
        while block := line.recv(65536):
            found += block
    first, _, body = found.partition(b"\r\n\r\n")
    lines = first.decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (h.split(": ", 1) for h in lines[1:])}, body


def problem(answer: tuple[int, dict[str, str], bytes], status: int) -> dict[str, str]:
    code, headers, body = answer
    refused(httpx.Response(code, headers={"content-type": headers["content-type"]}, content=body), status)
    return headers


@pytest.mark.parametrize("path", [CASES, EVENTS])
def test_a_body_over_the_limit(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Whether its length is said before or only found, and refused without reading on; one just below is read."""
    monkeypatch.setattr(web, "MAX_BODY", 20_000)
    with node(tmp_path, engine) as found:
        headers = found.as_platform() | {"content-type": "application/json"} | (BATCH if path == EVENTS else {})
        refused(found.client.post(path, content=b"[" + b" " * 20_001, headers=headers), 413)
        refused(found.client.post(path, content=iter([b"[" + b" " * 9_000] * 3), headers=headers), 413)
        below = found.client.post(path, content=b"[" + b" " * 19_000, headers=headers)
        refused(below, 422)
        credential = headers["Authorization"]
        endless = f"POST {path} HTTP/1.1\nAuthorization: {credential}\nContent-Type: {headers['content-type']}\n"
        declared = raw(found, endless + "Content-Length: 9000000000\nConnection: close\n")
        problem(declared, 413)


@pytest.mark.parametrize(("path", "kind"), [(CASES, "application/json"), (EVENTS, BATCH["content-type"])])
@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_a_slow_sender_is_let_go(tmp_path: Path, engine: Engine, path: str, kind: str, pause: float) -> None:
    """Who stops in the middle, and who sends a byte now and then for ever."""
    with node(tmp_path, engine, body_seconds=0.4) as found:
        head = f"POST {path} HTTP/1.1\n{'Authorization: '}{found.as_platform()['Authorization']}\n"
        head += f"Content-Type: {kind}\nContent-Length: 1000\n"
        begun = time.monotonic()
        headers = problem(raw(found, head, *[b"["] * (12 if pause else 1), pause=pause), 408)
        assert 0.3 < time.monotonic() - begun < 3 and headers["connection"] == "close"
        assert found.client.get("/livez").status_code == 200


def test_patience_is_for_bodies_only(tmp_path: Path, engine: Engine) -> None:
    with node(tmp_path, engine, body_seconds=0.2) as found, found.client.stream("GET", "/api/evaluation/v1/live") as answer:
        begun, blocks = time.monotonic(), 0
        for _ in answer.iter_raw():
            blocks += 1
            if time.monotonic() - begun > 1.1:
                break
        assert blocks >= 2


def test_who_asks_too_often_hears_when_to_come_again(tmp_path: Path, engine: Engine) -> None:
    with node(tmp_path, engine, named="5/minute", nameless="3/minute") as found:
        for _ in range(3):
            assert found.client.get("/api/web/v1/node").status_code == 200
        answer = found.client.get("/api/web/v1/node")
        refused(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 61
        for path in ("/livez", "/metrics", "/readyz"):
            assert found.client.get(path).status_code == 200, "the supervisor may always ask"


def test_a_known_credential_has_a_count_of_its_own(tmp_path: Path, engine: Engine) -> None:
    with node(tmp_path, engine, named="5/minute", nameless="4/minute") as found:
        one, other = found.as_("auditor"), found.as_platform()
        assert [found.client.get(CASES, headers=h).status_code for h in (one, other)] == [200, 200]
        assert [found.client.get(CASES).status_code for _ in range(3)] == [401, 401, 429]
        assert [found.client.get(CASES, headers=one).status_code for _ in range(6)] == [200] * 5 + [429]
        assert found.client.get(CASES, headers=other).status_code == 200, "what one asks costs the other nothing"


def test_made_up_credentials_do_not_get_round_the_limit(tmp_path: Path, engine: Engine) -> None:
    """Each a new one, or one again and again: both count as a stranger's."""
    with node(tmp_path, engine, nameless="5/minute") as found:
        right = found.as_("auditor")
        assert found.client.get(CASES, headers=right).status_code == 200
        made_up = [{"Authorization": f"Bearer sanji.x.{n // 3}"} for n in range(8)]
        assert [found.client.get(CASES, headers=h).status_code for h in made_up] == [401] * 4 + [429] * 4
        assert found.client.get(CASES, headers=right).status_code == 200


def test_a_full_queue_says_so_and_nothing_is_lost(tmp_path: Path, engine: Engine) -> None:
    with node(tmp_path, engine, bound=2) as found:
        headers, go, here = found.as_platform(), threading.Event(), threading.Event()

        def held(_: Tx) -> None:
            here.set()
            go.wait(20)

        found.runtime.writer.submit(held)
        assert here.wait(5)
        answers: list[httpx.Response] = []

        def post() -> None:
            answers.append(httpx.post(str(found.client.base_url) + CASES, json=REPORT, headers=headers, timeout=20))

        threads = [threading.Thread(target=post) for _ in range(6)]
        for thread in threads:
            thread.start()
        while len(answers) < 4:
            time.sleep(0.01)
        for answer in list(answers):
            refused(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
        refused(found.client.post(EVENTS, json=[{}], headers=headers | BATCH), 503)
        go.set()
        for thread in threads:
            thread.join()
        assert sorted(a.status_code for a in answers) == [201, 201, 503, 503, 503, 503]
        rows = found.client.get(CASES, headers=headers).json()["items"]
        assert {r["id"] for r in rows} == {a.json()["id"] for a in answers if a.status_code == 201}


def test_a_push_that_was_begun_is_finished_although_the_queue_is_full(tmp_path: Path, engine: Engine) -> None:
    """Busy says that nothing was done; so once a part is done, the rest waits for room instead."""
    runtime = start(settings(tmp_path), engine, bound=1)
    # Loops write by themselves now and then, and the one place in the queue is wanted here.
    runtime.loops.start = lambda *_: None  # type: ignore[method-assign]
    with listening(app(runtime)) as url, httpx.Client(base_url=url, timeout=30) as client:
        found = Served(runtime, client)
        writer, headers, full = runtime.writer, found.as_platform() | BATCH, list[int]()

        @event.listens_for(engine, "commit")
        def fill(_: Any) -> None:
            """The moment the first part is being committed, the only place in the queue is taken."""
            if not full and threading.current_thread() is writer._thread:
                full.append(1)
                writer.submit(lambda _: None)

        def stall() -> None:
            """And stays so until the second part has come."""
            if full == [1]:
                full.append(2)
                time.sleep(0.4)

        writer.committed = stall
        common = {"specversion": "1.0", "source": PLATFORM, "time": "2026-03-01T00:00:00Z"}
        common["type"] = "cn.sanji.platform.case.reported.v1"
        events = [common | {"id": f"e{n}", "subject": f"s{n}", "data": REPORT} for n in range(250)]
        answer = found.client.post(EVENTS, json=events, headers=headers)
        assert answer.status_code == 200 and answer.json()["accepted"] == 250 and full == [1, 2]


class Hanging(BaseHTTPRequestHandler):
    """An issuer that takes the question and says nothing."""

    go = threading.Event()

    def do_GET(self) -> None:
        self.go.wait(10)


def test_an_issuer_that_hangs_holds_up_nobody_else(tmp_path: Path, engine: Engine) -> None:
    hanging = ThreadingHTTPServer(("127.0.0.1", 0), Hanging)
    threading.Thread(target=hanging.serve_forever, daemon=True).start()
    with node(tmp_path, engine) as found:
        url = f"http://127.0.0.1:{hanging.server_port}"
        (found.runtime.node.secrets / "issuers" / "hanging.json").write_bytes(orjson.dumps({"issuer": url}))
        waiting = {"Authorization": f"Bearer {found.token('auditor', iss=url)}"}

        async def ask() -> list[float]:
            async with httpx.AsyncClient(base_url=found.client.base_url, timeout=20) as client:
                stuck = [asyncio.create_task(client.get(CASES, headers=waiting)) for _ in range(3)]
                await asyncio.sleep(0.1)
                begun = time.monotonic()
                for _ in range(5):
                    assert (await client.get(CASES, headers=found.as_("auditor"))).status_code == 200
                    assert (await client.get("/livez")).status_code == 200
                passed = [time.monotonic() - begun, float(sum(not t.done() for t in stuck))]
                Hanging.go.set()
                assert {(await t).status_code for t in stuck} == {401}
                return passed

        seconds, still = asyncio.run(ask())
    hanging.shutdown()
    hanging.server_close()
    assert still == 3 and seconds < 1


def test_metrics_name_routes_and_never_what_a_caller_typed(tmp_path: Path, engine: Engine) -> None:
    with node(tmp_path, engine) as found:
        found.client.get("/api/case/v1/cases/LiMing13800000000?secret=x", headers=found.as_("auditor"))
        found.client.get("/nowhere/LiMing13800000000")
        found.client.request("LIMING", "/livez")
        text = found.client.get("/metrics").text
        assert 'route="/api/case/v1/cases/{case_id}",status="404"' in text and 'route="<unmatched>"' in text
        assert "LiMing" not in text and "LIMING" not in text and "secret" not in text
        assert "sanji_writer_queue" in text and "sanji_request_seconds_bucket" in text


def test_every_answer_forbids_guessing_its_type(tmp_path: Path, engine: Engine) -> None:
    with node(tmp_path, engine) as found:
        for path in ("/livez", "/api/web/v1/node", CASES, "/nowhere"):
            headers = found.client.get(path).headers
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")
