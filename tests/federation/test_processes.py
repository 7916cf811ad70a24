"""Real processes and real brokers: cases pushed at counties reach the root, whatever is killed, cut or deleted on the way."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from deploy import client, e2e
from deploy.supervisor import Supervisor
from deploy.topology import load
from deploy.verify import verify
from shared.database import open_engine
from shared.settings import load as load_node
from tests.federation.grounds import CHAIN, Wire, free_block, line, reports, running, settled, topology_file, write

__all__ = ["topology_file"]
pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_killed_processes_change_no_figure(topology_file: Path, tmp_path: Path, split: bool) -> None:  # noqa: F811
    equal, told = e2e.run(tmp_path / "state", 240, topology_file, split=split)
    assert equal, told


def links(supervisor: Supervisor, at: str = "650000") -> dict[str, dict[str, object]]:
    answer = httpx.get(f"{supervisor.topology.node(at).url}api/evaluation/v1/links", timeout=10)
    return {link["code"]: link for link in answer.json()["links"]}


def until(wanted: Callable[[], bool], patience: float = 30) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if wanted():
            return True
        time.sleep(0.2)
    return False


def proven(base: Path, code: str) -> list[tuple[str, int, str]]:
    return [(c.log, c.facts, c.fault) for c in verify(open_engine(load_node(base / code / "node.json").database_url))]


def test_a_cut_link_is_shown_and_heals(tmp_path: Path) -> None:
    """The county works alone behind a link that swallows everything; the root says so, and comes right by itself."""
    first = free_block()
    wire = Wire(first + 10 + 8)
    uplinks = {"650102": {"uplink": f"127.0.0.1:{wire.port}"}}
    file = write(
        tmp_path / "t.toml", [line(c, p, first + n * 10, **uplinks.get(c, {})) for n, (c, p) in enumerate(CHAIN)]
    )
    with running(file, tmp_path / "state") as supervisor:
        key, port = client.key_of(tmp_path / "state", "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        client.push(port, key, reports(0, 20))
        assert settled(supervisor, 20)
        wire.cut()
        client.push(port, key, reports(20, 30))
        assert settled(supervisor, 50, at="650102"), "a county counts its own whether or not anybody listens"
        assert until(lambda: links(supervisor, "650100")["650102"]["state"] == "silent")
        assert client.figures(supervisor.topology.root.port, "origin") == {("650102",): (20, 0, 0, 0)}
        assert client.ready(supervisor.topology.node("650100").port), "a child out of reach makes nobody unfit for work"
        wire.mend()
        assert settled(supervisor, 50)
        assert until(lambda: links(supervisor, "650100")["650102"]["state"] == "ok")
    wire.close()
    assert proven(tmp_path / "state", "650000") == [("650102/case", 50, "")]


@pytest.mark.parametrize("at", ["650102", "650100", "650000"])
def test_a_deleted_store_heals_while_running(topology_file: Path, tmp_path: Path, at: str) -> None:  # noqa: F811
    """The folder of a broker's store is deleted under it, then the broker dies: nothing but the log may be needed."""
    base = tmp_path / "state"
    with running(topology_file, base) as supervisor:
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        client.push(port, key, reports(0, 40))
        assert settled(supervisor, 40)
        shutil.rmtree(base / at / "jetstream", ignore_errors=True)
        client.push(port, key, reports(40, 40))
        supervisor.brokers[at].signal(signal.SIGKILL)
        client.push(port, key, reports(80, 40))
        assert settled(supervisor, 120)
    assert proven(base, "650000") == [("650102/case", 120, "")]


def test_every_process_is_killed_in_turn(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    base = tmp_path / "state"
    with running(topology_file, base) as supervisor:
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        done = 0
        for child in supervisor.children():
            client.push(port, key, reports(done, 10))
            child.signal(signal.SIGKILL)
            child.end()
            done += 10
            deadline = time.monotonic() + 20
            while not all(c.alive for c in supervisor.children()) and time.monotonic() < deadline:
                supervisor.tend()
                time.sleep(0.1)
        assert settled(supervisor, done)
        assert all(c.restarts >= 1 for c in supervisor.children())
    assert proven(base, "650000") == [("650102/case", done, "")]


def test_the_nursery_dies_and_everything_comes_back(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    with running(topology_file, tmp_path / "state") as supervisor:
        key, port = client.key_of(tmp_path / "state", "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        client.push(port, key, reports(0, 10))
        supervisor.nursery.kill()
        assert until(lambda: not any(c.alive for c in supervisor.children())), "what came from it ends with it"
        supervisor.wait_for([s.code for s in supervisor.topology.nodes])
        client.push(port, key, reports(10, 10))
        assert settled(supervisor, 20)


def test_a_county_joins_while_the_others_run(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    """One line more in the topology: the new county's cases reach the root, and no other process was started again."""
    base = tmp_path / "state"
    whole = topology_file.read_text()
    without = "\n".join(row for row in whole.splitlines() if '"650103", port' not in row)
    topology_file.write_text(without)
    with running(topology_file, base) as supervisor:
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        client.push(port, key, reports(0, 10))
        before = {c.name: c.pid for c in supervisor.children()}
        topology_file.write_text(whole)
        assert supervisor.apply(load(topology_file)) == ["650103"]
        supervisor.wait_for(["650103"])
        joined = client.key_of(base, "650103", e2e.SOURCE)
        inside = e2e.spots(e2e.load_pack(supervisor.topology.pack), "650103")[0]
        there = [r | {"data": r["data"] | {"lon": inside[0], "lat": inside[1]}} for r in reports(0, 15)]
        assert {i["outcome"] for i in client.push(supervisor.topology.node("650103").port, joined, there)} == {"accepted"}
        truth = {("650102", "E0101"): {"reported": 10}, ("650103", "E0101"): {"reported": 15}}
        assert client.settle(supervisor.topology.root.port, truth, supervisor.tend)
        assert {c.name: c.pid for c in supervisor.children() if c.name in before} == before
        assert set(links(supervisor)) == {"650100", "650102", "650103"}


def test_a_county_restored_from_an_old_copy_is_noticed(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    """A county that knows less of its own log than its parent does is shown, before it overwrites anything."""
    base = tmp_path / "state"
    with running(topology_file, base) as supervisor:
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        client.push(port, key, reports(0, 10))
        assert settled(supervisor, 10)
        child = supervisor.nodes["650102"]
        child.signal(signal.SIGTERM)
        child.end()
        shutil.copy(base / "650102" / "node.db", tmp_path / "old.db")
        child.start()
        client.push(port, key, reports(10, 10))
        assert settled(supervisor, 20)
        child.signal(signal.SIGTERM)
        child.end()
        for path in (base / "650102").glob("node.db*"):
            path.unlink()
        shutil.copy(tmp_path / "old.db", base / "650102" / "node.db")
        child.start()
        assert until(lambda: links(supervisor, "650100")["650102"]["state"] == "behind")
        assert client.figures(supervisor.topology.root.port, "origin") == {("650102",): (20, 0, 0, 0)}
