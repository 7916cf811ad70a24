"""A parent whose database is put back to an older copy (rule R8) is simply shorter; those below fill it again by themselves."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from deploy import client, e2e
from deploy.supervisor import Supervisor
from deploy.verify import verify
from services.evaluation.recount import recount
from shared.database import open_engine
from shared.settings import load as load_node
from tests.federation.grounds import reports, running, settled, topology_file

__all__ = ["topology_file"]
pytestmark = pytest.mark.timeout(120)


def stopped(supervisor: Supervisor, code: str) -> None:
    child = supervisor.nodes[code]
    child.signal(signal.SIGTERM)
    child.end()


def put(source: Path, folder: Path) -> None:
    """Copy a database, and nothing else of its folder, to another place."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("node.db*"):
        path.unlink()
    for path in source.glob("node.db*"):
        shutil.copy(path, folder)


@pytest.mark.parametrize("store", ["kept", "lost"])
@pytest.mark.parametrize("at", ["650100", "650000"])
def test_a_parent_restored_from_an_old_copy_fills_again(topology_file: Path, tmp_path: Path, at: str, store: str) -> None:  # noqa: F811
    base, old = tmp_path / "state", tmp_path / "old"
    with running(topology_file, base) as supervisor:
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        client.push(port, key, reports(0, 10))
        assert settled(supervisor, 10, at=at)
        stopped(supervisor, at)
        put(base / at, old)
        supervisor.nodes[at].start()
        client.push(port, key, reports(10, 20))
        # At both, so that what the upper one holds is more than what the lower one will know.
        assert settled(supervisor, 30) and settled(supervisor, 30, at="650100")
        stopped(supervisor, at)
        put(old, base / at)
        if store == "lost":
            supervisor.brokers[at].signal(signal.SIGKILL)
            supervisor.brokers[at].end()
            shutil.rmtree(base / at / "jetstream")
        supervisor.nodes[at].start()
        assert settled(supervisor, 30, at=at), "what it had known once comes again, without anything new to remind it"
        client.push(port, key, reports(30, 10))
        assert settled(supervisor, 40) and settled(supervisor, 40, at="650100")
    for code in ("650000", "650100"):
        engine = open_engine(load_node(base / code / "node.json").database_url)
        assert [(c.log, c.facts, c.fault) for c in verify(engine)] == [("650102/case", 40, "")]
        assert recount(engine) == []
