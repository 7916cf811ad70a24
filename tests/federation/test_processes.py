"""Real processes and real brokers: cases pushed at counties reach the root, whatever is killed on the way."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from deploy import e2e
from deploy.supervisor import Supervisor
from deploy.topology import load

CHAIN = (("650000", None), ("650100", "650000"), ("650102", "650100"), ("650103", "650100"))


def free_block() -> int:
    """First of forty free ports in a row, below the range from which the system gives out ports by itself."""
    for first in range(20000 + os.getpid() % 500 * 20, 32000, 40):
        try:
            for port in range(first, first + 40):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise RuntimeError("no forty free ports in a row")


@pytest.fixture
def topology_file(tmp_path: Path) -> Path:
    first = free_block()
    pack = e2e.ROOT / "packs" / "xinjiang"
    lines = [f'pack = "{pack}"', "demo = true"]
    for index, (code, parent) in enumerate(CHAIN):
        lines += ["[[nodes]]", f'code = "{code}"', f'names = {{ zh = "{code}", en = "{code}" }}', 'zone = "Asia/Shanghai"']
        lines += [f"port = {first + index * 10}"] + ([f'parent = "{parent}"'] if parent else [])
    path = tmp_path / "topology.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.timeout(240)
def test_killed_processes_change_no_figure(topology_file: Path, tmp_path: Path) -> None:
    equal, line = e2e.run(tmp_path / "state", 240, topology_file)
    assert equal, line


@pytest.mark.timeout(240)
def test_a_stranger_at_the_door(topology_file: Path, tmp_path: Path) -> None:
    """What a node answers to nobody, to a wrong key, to bad input; and that a deleted store heals by itself."""
    topology = load(topology_file)
    supervisor = Supervisor(topology, tmp_path / "state")
    try:
        supervisor.up()
        key = e2e.key_of(tmp_path / "state", "650102")
        _bad_input(topology.node("650102").port, key)
        _foreign_key(topology.node("650103").port, key)
        _deleted_store(supervisor, tmp_path / "state", key)
    finally:
        supervisor.stop()


def _bad_input(port: int, key: str) -> None:
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/case/v1", timeout=20)
    assert client.get("/cases").status_code == 401
    client.headers["Authorization"] = f"Bearer {key}"
    strange = client.get("/cases", params={"colour": "red"})
    assert (strange.status_code, strange.json()["field"]) == (422, "/colour")
    assert strange.headers["content-type"] == "application/problem+json"
    batch = {"content-type": "application/cloudevents-batch+json"}
    assert client.post("/events", content=b"{", headers=batch).json()["field"] == "/body"
    good = event("a:reported", "reported", {"category": "E0101", "lon": 87.62, "lat": 43.72})
    items = client.post("/events", headers=batch, json=[
        good,
        good,
        good | {"data": good["data"] | {"category": "E0102"}},
        event("b:closed", "closed", {}, subject="b"),
        event("c:reported", "reported", {"category": "X9", "lon": 87.62, "lat": 43.72}, subject="c"),
        event("d:reported", "reported", {"category": "E0101", "lon": 0.0, "lat": 0.0}, subject="d"),
        good | {"source": "urn:somebody:else", "id": "e"},
        {"id": "f"},
        event("a:filed", "filed", {}),
    ]).json()["items"]  # fmt: skip
    assert [i["outcome"] for i in items] == ["accepted", "duplicate", *["refused"] * 6, "accepted"]
    fields = [i.get("field") for i in items[2:8]]
    assert fields == ["/id", "/subject", "/data/category", "/data/lon", "/source", "/specversion"]
    assert client.get("/quarantine").json()[0]["reason"]
    assert len(client.get("/cases").json()["items"]) == 1
    etag = client.get("/cases").headers["etag"]
    assert client.get("/cases", headers={"if-none-match": etag}).status_code == 304
    assert client.get("/cases", params={"format": "geojson"}).json()["features"][0]["geometry"]["type"] == "Point"
    assert client.get("/cases", params={"format": "csv"}).text.startswith("id,number")


def _foreign_key(port: int, key: str) -> None:
    answer = httpx.get(f"http://127.0.0.1:{port}/api/case/v1/cases", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401


def _deleted_store(supervisor: Supervisor, base: Path, key: str) -> None:
    """The broker of the middle node loses its store while the county goes on."""
    port = supervisor.topology.node("650102").port
    broker = supervisor.brokers["650100"]
    assert broker.process
    os.kill(broker.process.pid, signal.SIGKILL)
    broker.process.wait()
    for path in sorted((base / "650100" / "jetstream").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    events = [event(f"z{n}:reported", "reported", {"category": "E0101", "lon": 87.62, "lat": 43.72}, f"z{n}") for n in range(50)]
    assert e2e.push(port, key, events)["accepted"] == 50
    root = supervisor.topology.node("650000").port
    assert e2e.settle(supervisor, root, {("650102", "E0101"): {"reported": 51, "refused": 0, "filed": 1, "closed": 0}})


def event(name: str, kind: str, data: dict[str, object], subject: str = "a") -> dict[str, object]:
    return {
        "specversion": "1.0", "id": name, "source": e2e.SOURCE, "type": f"cn.sanji.platform.case.{kind}.v1",
        "time": "2026-03-02T09:00:00+08:00", "subject": subject, "data": data,
    }  # fmt: skip
