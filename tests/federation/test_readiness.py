"""Readiness refuses what could lose data, names what is wrong, and liveness depends on nobody else."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest

from deploy.supervisor import Supervisor
from deploy.topology import load
from tests.federation.grounds import running, topology_file

__all__ = ["topology_file"]
pytestmark = pytest.mark.timeout(120)


def troubles(url: str) -> dict[str, str]:
    return dict(httpx.get(f"{url}readyz", timeout=5).json()["troubles"])


def until_named(url: str, name: str, patience: float = 40) -> str:
    """Wait until readiness names a trouble that starts so, and answer what it says."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = next((why for what, why in troubles(url).items() if what.startswith(name)), None)
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"readiness never named {name}: {troubles(url)}")


def test_a_broker_that_may_lose_what_it_confirmed_is_refused(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    supervisor = Supervisor(load(topology_file), tmp_path / "state")
    conf = tmp_path / "state" / "650000" / "broker.conf"
    conf.write_text(re.sub(r", sync_interval: always", "", conf.read_text()))
    try:
        with pytest.raises(TimeoutError, match="650000"):
            supervisor.up(12)
        url = supervisor.topology.root.url
        assert "sync_interval" in troubles(url)["broker"]
        assert httpx.get(f"{url}readyz").status_code == 503
        assert httpx.get(f"{url}livez").status_code == 200
    finally:
        supervisor.stop()


def test_a_dead_broker_turns_readiness_red_and_says_which_loop(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    with running(topology_file, tmp_path / "state") as supervisor:
        url = supervisor.topology.node("650102").url
        assert troubles(url) == {}
        supervisor.brokers["650102"].signal(9)
        assert until_named(url, "loop stream")
        assert httpx.get(f"{url}livez").status_code == 200, "a process that waits for its broker is alive"
        metrics = httpx.get(f"{url}metrics").text
        assert re.search(r'sanji_loop_ok\{loop="stream"\} 0\.0', metrics)
        supervisor.wait_for(["650102"])
        assert troubles(url) == {}


def test_metrics_tell_the_lag_of_every_log_from_below(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    with running(topology_file, tmp_path / "state") as supervisor:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            text = httpx.get(f"{supervisor.topology.root.url}metrics").text
            found = set(re.findall(r'sanji_log_lag\{log="([^"]+)"\} 0\.0', text))
            if found == {"650100/case", "650102/case", "650103/case"}:
                break
            time.sleep(0.3)
        assert found == {"650100/case", "650102/case", "650103/case"}
        names = ("writer_queue", "loop_ok", "request_seconds", "commit_seconds", "log_asked_seconds")
        assert [name for name in names if f"sanji_{name}" not in text] == []
