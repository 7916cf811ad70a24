"""PostgreSQL in place of SQLite by its URL alone; and several copies of a service on one database, which share the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from deploy import client, e2e
from deploy.migrate import migrate
from deploy.verify import verify
from services.evaluation.recount import recount
from shared import lease
from shared.database import open_engine, reading
from shared.settings import load as load_node
from tests.databases import Server
from tests.federation.grounds import CHAIN, free_block, line, reports, running, settled, write

pytestmark = pytest.mark.timeout(240)


def on_postgres(postgres: Server, tmp_path: Path) -> tuple[Path, int]:
    """A topology whose nodes each have a database on one server; and a free port beside theirs."""
    first = free_block()
    lines = [line(c, p, first + n * 10, database_url=postgres.fresh()) for n, (c, p) in enumerate(CHAIN)]
    return write(tmp_path / "t.toml", lines), first + len(CHAIN) * 10


def test_everything_on_postgresql(postgres: Server, tmp_path: Path) -> None:
    file, _ = on_postgres(postgres, tmp_path)
    equal, told = e2e.run(tmp_path / "state", 200, file)
    assert equal, told


@contextmanager
def copies(settings: Path, first: int, names: tuple[str, ...]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Copies of the evaluation service, each started as production does."""
    started = {}
    for n, name in enumerate(names):
        command = [sys.executable, "-m", "uvicorn", "--factory", "deploy.node:evaluation", "--port", str(first + n)]
        with (settings.parent / f"copy-{name}.log").open("wb") as log:
            env = os.environ | {"SANJI_NODE": str(settings), "SANJI_INSTANCE": name}
            started[name] = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(20)


def held(url: str) -> dict[str, set[str]]:
    """The logs that each copy holds a lease of."""
    engine, found = open_engine(url), {}
    with reading(engine) as connection:
        for row in connection.execute(select(lease.leases).where(lease.leases.c.name.startswith("hear "))):
            found.setdefault(row.holder, set()).add(row.name)
    engine.dispose()
    return found


def test_two_copies_share_the_work_and_fold_nothing_twice(postgres: Server, tmp_path: Path) -> None:
    file, free = on_postgres(postgres, tmp_path)
    base = tmp_path / "state"
    with running(file, base) as supervisor:
        root, settings = supervisor.topology.root, base / "650000" / "node.json"
        url = load_node(settings).database_url
        alone = supervisor.nodes.pop("650000")
        alone.signal(signal.SIGTERM)
        alone.end()
        migrate(open_engine(url))
        key, port = client.key_of(base, "650102", e2e.SOURCE), supervisor.topology.node("650102").port
        with copies(settings, root.port, ("a", "b")) as processes:
            client.push(port, key, reports(0, 300))
            assert settled(supervisor, 300)
            until = time.monotonic() + 30
            while len(held(url)) < 2 and time.monotonic() < until:
                supervisor.tend()
                time.sleep(0.2)
            shared_out = held(url)
            assert set(shared_out) == {"a", "b"} and not shared_out["a"] & shared_out["b"], shared_out
            busy = next(name for name, names in shared_out.items() if any("650102" in n for n in names))
            processes[busy].kill()
            client.push(port, key, reports(300, 300))
            left = next(n for n in ("a", "b") if n != busy)
            truth = {("650102", "E0101"): {"reported": 600}}
            assert client.settle(root.port + ("a", "b").index(left), truth, supervisor.tend), "the other copy takes over"
    engine = open_engine(url)
    assert recount(engine) == []
    assert [(c.log, c.facts, c.fault) for c in verify(engine)] == [("650102/case", 600, "")]
