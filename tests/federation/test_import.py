"""A real record through four counties while all is killed in turn and a link is cut: the figures equal a count of the file.

The count reads the file by itself and uses no code of the services. CUT sets the seconds of the cut.
"""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import yaml

from deploy import client
from deploy.mapping import Mapping
from deploy.replay import Replay, planned
from deploy.supervisor import Supervisor
from deploy.topology import load
from services.evaluation.recount import recount
from shared.database import open_engine
from shared.settings import load as load_node
from tests.federation.grounds import Wire, free_block, line, running, topology_file, write

__all__ = ["topology_file"]
ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT.parent / "shared" / "data" / "cases" / "baltimore_2014_2019.parquet"
MAPPING = ROOT / "deploy" / "mappings" / "baltimore_2014_2019.yaml"
COUNTIES = ("650102", "650103", "654002", "654003")
PARENTS = {"650100": "650000", "654000": "650000", "650102": "650100", "650103": "650100", "654002": "654000", "654003": "654000"}
CUT = float(os.environ.get("CUT", "10"))


def county_of(case: str) -> str:
    digest = hashlib.sha256(f"county\0{case}".encode()).digest()
    return COUNTIES[int.from_bytes(digest[:8], "big") >> 62]


def category_of(text: str, rules: list[list[str]]) -> str:
    """The first pattern with `*` at its begin, its end or both that fits."""
    for pattern, code in rules:
        head, star, tail = pattern.partition("*")
        if not star and text == pattern:
            return code
        middle, second, end = tail.partition("*")
        if second:
            fits = text.startswith(head) and text.endswith(end) and middle in text[len(head) : len(text) - len(end) or None]
        else:
            fits = bool(star) and text.startswith(head) and text.endswith(tail) and len(text) >= len(head) + len(tail)
        if fits:
            return code
    raise AssertionError(text)


def counted(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Counter[str]]:
    """Reported, refused, filed, closed by county and category, read off the file."""
    rules = yaml.safe_load(MAPPING.read_text())["categories"]
    found: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        counter = found.setdefault((county_of(row["case_id"]), category_of(row["subcategory"], rules)), Counter())
        counter["reported"] += 1
        counter["refused" if row["status"] in ("duplicate", "transferred") else "filed"] += 1
        counter["closed"] += row["status"] == "closed"
    return found


def summed(truth: dict[tuple[str, str], Counter[str]], node: str) -> dict[tuple[str, ...], Counter[str]]:
    """By category, of the counties at or below `node`."""
    found: dict[tuple[str, ...], Counter[str]] = {}
    for (county, category), counter in truth.items():
        if node in (county, PARENTS[county], PARENTS[PARENTS[county]]):
            found.setdefault((category,), Counter()).update(counter)
    return found


@pytest.mark.timeout(600)
@pytest.mark.skipif(not RECORD.exists(), reason="the public record beside the checkout is absent")
def test_the_whole_record_while_everything_fails_in_turn(tmp_path: Path) -> None:
    first = free_block()
    wire = Wire(first + 8)
    codes = ["650000", *PARENTS]
    extra = {"654000": {"uplink": f"127.0.0.1:{wire.port}"}}
    lines = [line(c, PARENTS.get(c), first + n * 10, **extra.get(c, {})) for n, c in enumerate(codes)]
    rows = parquet.read_table(RECORD).to_pylist()
    truth = counted(rows)
    with running(write(tmp_path / "t.toml", lines), tmp_path / "state") as supervisor:
        topology = supervisor.topology
        plan = planned(RECORD, Mapping.load(MAPPING), topology)
        replay = Replay(plan, "baltimore_2014_2019", topology, supervisor.base)
        trouble = Trouble(supervisor, wire)
        replay.run(trouble.go_on)
        trouble.finish()
        # What a killed node had committed without answering comes again, and is known.
        assert replay.outcomes["accepted"] + replay.outcomes["duplicate"] == replay.total and not replay.refused
        for code in codes:
            truly = summed(truth, code)
            assert client.settle(topology.node(code).port, truly, supervisor.tend, 90, by="category"), f"figures of {code}"
        figures = client.figures(topology.root.port, "origin,category")
        names = ("reported", "refused", "filed", "closed")
        assert figures == {key: tuple(c[n] for n in names) for key, c in truth.items()}
        again = Replay(plan, "baltimore_2014_2019", topology, supervisor.base)
        again.run()
        assert not again.outcomes, "a replay that ended has nothing left to do"
        assert trouble.killed == len(supervisor.children()) and all(c.restarts for c in supervisor.children())
    wire.close()
    for code in codes:
        assert recount(open_engine(load_node(tmp_path / "state" / code / "node.json").database_url)) == []


class Trouble:
    """Kills one process after another and cuts a prefecture's link once, while `go_on` is called."""

    def __init__(self, supervisor: Supervisor, wire: Wire) -> None:
        self.supervisor, self.wire = supervisor, wire
        self.killed, self.next, self.cut_at = 0, 0.0, 0.0

    def go_on(self, _: Replay | None = None) -> None:
        self.supervisor.tend()
        now = time.monotonic()
        if not self.cut_at:
            self.cut_at = now
            self.wire.cut()
        elif now - self.cut_at > CUT and not self.wire.whole.is_set():
            self.wire.mend()
        children = self.supervisor.children()
        if now > self.next and self.killed < len(children) and all(c.alive for c in children):
            children[self.killed].signal(signal.SIGKILL)
            self.killed, self.next = self.killed + 1, now + 0.7

    def finish(self) -> None:
        while self.killed < len(self.supervisor.children()) or not self.wire.whole.is_set():
            self.go_on()
            time.sleep(0.1)


@pytest.mark.timeout(240)
def test_dirty_rows_are_refused_and_a_stopped_import_goes_on(topology_file: Path, tmp_path: Path) -> None:  # noqa: F811
    """A file made here: good rows, a closing before its report, no time, no such place; stopped half-way and gone on with."""
    columns = ["case_id", "created_at", "due_at", "closed_at", "status", "subcategory", "lon", "lat"]
    good = [[f"c{n}", "2026-01-05 08:00:00", "", "2026-01-06 08:00:00", "closed", "x", 87.62, 43.72] for n in range(600)]
    bad = [
        ["b1", "2026-01-05 08:00:00", "", "2026-01-04 08:00:00", "closed", "x", 87.62, 43.72],
        ["b2", "not a time", "", "", "open", "x", 87.62, 43.72],
        ["b3", "2026-01-05 08:00:00", "", "", "open", "x", 10.0, 10.0],
        ["b4", "2026-01-05 08:00:00", "", "2026-01-05 09:00:00", "lost", "x", 87.62, 43.72],
    ]
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([columns, *good, *bad])
    given = yaml.safe_load(MAPPING.read_text()) | {"dataset": "rows", "zone": "Asia/Shanghai", "categories": [["*", "E0101"]]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(given))
    with running(topology_file, tmp_path / "state") as supervisor:
        plan = planned(file, Mapping.load(tmp_path / "m.yaml"), load(topology_file), into="650102")
        begun = Replay(plan, "rows", supervisor.topology, supervisor.base)
        threading.Timer(0.05, begun.stop.set).start()
        begun.run()
        rest = Replay(plan, "rows", supervisor.topology, supervisor.base)
        rest.run()
        assert begun.outcomes + rest.outcomes == Counter(accepted=1800 + 4, refused=6)
        why = {item["id"]: item["field"] for item in rest.all_refused()}
        assert why == {
            "b1:closed": "/time", "b2:reported": "/time", "b2:filed": "/time", "b3:reported": "/data/lon",
            "b3:filed": "/subject", "b4:lost": "/type",
        }  # fmt: skip
        truth = {("650102", "E0101"): {"reported": 602, "filed": 602, "closed": 600}}
        assert client.settle(supervisor.topology.root.port, truth, supervisor.tend)
