"""The command line as people type it: a federation in a process of its own, a county that joins it, proofs, keys and refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy import client
from deploy.topology import load
from services.evaluation.handlers import READER, fold
from shared.database import open_engine
from shared.log import entries
from shared.reader import Reader
from shared.settings import load as load_node
from tests.federation.grounds import reports, topology_file

__all__ = ["topology_file"]
pytestmark = pytest.mark.timeout(180)
SANJI = str(Path(sys.executable).parent / "sanji")


def sanji(*words: str | Path) -> tuple[int, str]:
    """(exit status, everything printed)."""
    env = os.environ | {"COLUMNS": "200"}
    told = subprocess.run([SANJI, *map(str, words)], capture_output=True, text=True, timeout=120, env=env)
    return told.returncode, told.stdout + told.stderr


@contextmanager
def up(topology: Path, state: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [SANJI, "up", str(topology), "--state", str(state), *more]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 60
        while not all(client.ready(spec.port) for spec in load(topology).nodes):
            assert running.poll() is None and time.monotonic() < until, running.stdout and running.stdout.read()
            time.sleep(0.2)
        yield running
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)


def test_a_day_with_the_command_line(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    state = tmp_path / "state"
    whole = topology_file.read_text()
    topology_file.write_text("\n".join(row for row in whole.splitlines() if '"650103", port' not in row))
    county = state / "650102" / "node.json"
    with up(topology_file, state) as running:
        status, told = sanji("up", topology_file, "--state", state)
        assert status == 1 and "already" in told, "the same folder is not run twice"
        status, told = sanji("up", topology_file, "--state", tmp_path / "other")
        assert status == 1 and "taken" in told, "nor the same ports"

        topology_file.write_text(whole)
        status, told = sanji("apply", topology_file, "--state", state)
        assert status == 0 and "650103" in told
        assert running.poll() is None

        status, key = sanji("key", county, "integrator", "urn:test:platform")
        events = [r | {"source": "urn:test:platform"} for r in reports(0, 7)]
        port = load(topology_file).node("650102").port
        assert {i["outcome"] for i in client.push(port, key.strip(), events)} == {"accepted"}
        assert client.settle(load(topology_file).root.port, {("650102", "E0101"): {"reported": 7}}, lambda: None)

        status, token = sanji("token", "evaluator-650000", "--topology", topology_file, "--state", state)
        asked = f"{load(topology_file).root.url}api/evaluation/v1/cases?area=650100"
        answer = httpx.get(asked, headers={"Authorization": f"Bearer {token.strip()}"})
        assert status == 0 and len(answer.json()["items"]) == 7

        status, told = sanji("status", topology_file)
        assert status == 0 and "650102/case" in told and "no" not in told.split()
        assert sanji("recount", state / "650000" / "node.json") == (0, "0 differences\n")
        status, told = sanji("verify", state / "650000" / "node.json")
        assert status == 0 and "650102/case" in told
    assert running.returncode == 0
    _spoil(state / "650000" / "node.json")
    status, told = sanji("verify", state / "650000" / "node.json")
    assert status == 1 and "not the one that was sealed" in told
    root = open_engine(load_node(state / "650000" / "node.json").database_url)
    Reader(READER, root, fold).take("650102", "case", b"no batch at all")
    status, told = sanji("quarantine", state / "650000" / "node.json")
    assert status == 0 and "650102/case" in told and "not a batch" in told


def _spoil(settings: Path) -> None:
    """Change a stored fact as somebody with the database in hand would."""
    with open_engine(load_node(settings).database_url).begin() as connection:
        connection.execute(entries.update().where(entries.c.seq == 3).values(body=b'{"case":"another"}'))


def test_refusals_are_one_line(tmp_path: Path, topology_file: Path) -> None:  # noqa: F811
    """Wrong topologies and names are answered with what is wrong, not with a stack."""
    broken = tmp_path / "broken.toml"
    for text, word in (
        ("nodes = [", "broken.toml"),
        (topology_file.read_text().replace('parent = "650100"', 'parent = "650999"', 1), "650999"),
        (topology_file.read_text().replace('"Asia/Shanghai"', '"Asia/Nowhere"'), "Nowhere"),
        (topology_file.read_text().replace('code = "650102"', 'code = "six"'), "/nodes"),
    ):
        broken.write_text(text)
        status, told = sanji("up", broken, "--state", tmp_path / "s")
        assert status == 1 and word in told and "Traceback" not in told, told
    status, told = sanji("apply", topology_file, "--state", tmp_path / "nothing")
    assert status == 1 and "sanji up" in told
    assert sanji("fly")[0] == 2


def test_a_single_node_with_its_broker(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    """What a county's own machine runs: the rendered folder and one command."""
    status, path = sanji("render", topology_file, "650102", "--state", tmp_path / "state")
    assert status == 0
    command = [SANJI, "node", path.strip()]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        port, until = load(topology_file).node("650102").port, time.monotonic() + 40
        while not client.ready(port):
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        key = client.key_of(tmp_path / "state", "650102", "urn:sanji:generator")
        assert {i["outcome"] for i in client.push(port, key, reports(0, 3))} == {"accepted"}
        truth = {("650102", "E0101"): {"reported": 3}}
        assert client.settle(port, truth, lambda: None), "alone, a county counts its own"
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)
    assert running.returncode == 0
