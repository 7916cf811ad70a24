"""Real records through two counties: the root's figures equal a count of the file that uses no code of the services."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import pyarrow.parquet as parquet
import pytest

from deploy import e2e
from deploy.mapping import Mapping
from deploy.replay import replay
from deploy.supervisor import Supervisor
from deploy.topology import load
from tests.federation.test_processes import topology_file

__all__ = ["topology_file"]
ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT.parent / "shared" / "data" / "cases" / "baltimore_2014_2019.parquet"
ROWS = 800


@pytest.mark.timeout(240)
@pytest.mark.skipif(not RECORD.exists(), reason="the public record beside the checkout is absent")
def test_the_file_counted_twice(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    part = parquet.read_table(RECORD).slice(0, ROWS)
    parquet.write_table(part, tmp_path / "part.parquet")
    mapping = Mapping.load(ROOT / "deploy" / "mappings" / "baltimore_2014_2019.yaml")
    topology = load(topology_file)
    supervisor = Supervisor(topology, tmp_path / "state")
    try:
        supervisor.up()
        outcomes = replay(tmp_path / "part.parquet", mapping, topology, tmp_path / "state", lambda *_: None)
        assert outcomes["refused"] == 0
        again = replay(tmp_path / "part.parquet", mapping, topology, tmp_path / "state", lambda *_: None)
        assert sum(again.values()) == 0, "an import that ended has nothing left to do"
        wanted: dict[str, Counter[str]] = {}
        for row in part.to_pylist():
            counter = wanted.setdefault(mapping.category(row["subcategory"]), Counter())
            counter["reported"] += 1
            refused = row["status"] in ("duplicate", "transferred")
            counter["refused" if refused else "filed"] += 1
            if row["status"] == "closed":
                counter["closed"] += 1
                counter["closed_on_time"] += row["due_at"] is not None and row["closed_at"] <= row["due_at"]
        _agree(supervisor, topology.node("650000").port, wanted)
    finally:
        supervisor.stop()


def _agree(supervisor: Supervisor, port: int, wanted: dict[str, Counter[str]]) -> None:
    truth = {(c,): counter for c, counter in wanted.items()}
    assert e2e.settle(supervisor, port, truth, by="category"), "the root never came to the figures of the file"
    items = httpx.get(f"http://127.0.0.1:{port}/api/evaluation/v1/figures", params={"by": "category"}).json()["items"]
    dated = {i["category"]: i["closed_on_time"] for i in items}
    # Where the record names no deadline the catalogue's limit counts, so only a lower bound can be read off the file.
    assert all(dated[c] >= counter["closed_on_time"] for c, counter in wanted.items())
