"""A county that leaves the topology while all runs: what it stated stays, nothing more of it is heard, and it may come back."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from deploy import client, e2e
from deploy.topology import load
from tests.federation.grounds import reports, running, settled, topology_file
from tests.federation.test_processes import links, until

__all__ = ["topology_file"]
pytestmark = pytest.mark.timeout(120)


def test_a_county_leaves_and_comes_back(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    base, whole = tmp_path / "state", topology_file.read_text()
    with running(topology_file, base) as supervisor:
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        upper = [supervisor.topology.node(code) for code in ("650000", "650100")]
        client.push(port, key, reports(0, 10))
        assert settled(supervisor, 10)
        topology_file.write_text("\n".join(row for row in whole.splitlines() if '"650102", port' not in row))
        assert supervisor.apply(load(topology_file)) == []
        assert until(lambda: "650102" not in links(supervisor) and "650102" not in links(supervisor, "650100"))
        leaves = f"http://127.0.0.1:{upper[1].monitor_port}/leafz"
        assert until(lambda: {leaf["account"] for leaf in httpx.get(leaves, timeout=5).json()["leafs"]} == {"NODE", "L_650103"})
        client.push(port, key, reports(10, 10))
        time.sleep(3)
        assert client.figures(upper[0].port, "origin") == {("650102",): (10, 0, 0, 0)}, "what it stated stays, no more comes"
        assert all(client.ready(spec.port) for spec in supervisor.topology.nodes)
        assert not any("650102" in httpx.get(f"{spec.url}readyz", timeout=5).text for spec in upper)
        topology_file.write_text(whole)
        assert supervisor.apply(load(topology_file)) == []
        assert settled(supervisor, 20) and "650102" in links(supervisor, "650100")
