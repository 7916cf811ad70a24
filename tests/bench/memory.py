"""Resident memory of the whole demo: seven nodes, seven brokers and their supervisor, after 2,000 generated cases, in MB.

PSS is summed, which counts a page that several processes share once. The supervisor here is this program, a little heavier than
the real one. The baseline is what doing nothing would take: as many Python processes, each started by itself, that only import
the node's modules and sleep, and as many brokers without streams or links.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable

from deploy.supervisor import BROKER
from tests.bench.federation import Federation, demo, pid, running, say
from tests.bench.line import Figure, Run
from tests.bench.machine import family, memory
from tests.federation.grounds import free_block

CASES = 2000
BARE = "import deploy.cli, time; print(flush=True); time.sleep(600)"


def measure(scale: float, runs: int) -> Figure:
    count, found = max(8, round(CASES * scale)), list[Run]()
    for number in range(runs):
        with running(demo()) as town:
            parts, rss = _demo(town, count, number)
        found.append(Run(sum(parts.values()), _baseline(len(town.supervisor.nodes)), parts | {"rss": rss}))
        say(f"memory_demo: run {number + 1} of {runs}: {found[-1].value:.0f} MB, bare {found[-1].baseline:.0f} MB")
    size = f"{len(town.supervisor.nodes)} nodes and brokers after {count} cases"
    return Figure("MB", "lower", size, "as many Python processes that import the same and idle brokers", found)


def _demo(town: Federation, count: int, number: int) -> tuple[dict[str, float], float]:
    """(PSS in MB by kind of process, RSS of all) once every case arrived at the root."""
    wanted = {}
    for index, code in enumerate(town.counties):
        events = town.cases(code, count // len(town.counties), seed=10 * number + index)
        town.push(code, events)
        wanted[code] = count // len(town.counties)
    town.await_reported(town.root, wanted)
    nodes = family(pid(c) for c in town.supervisor.nodes.values())
    brokers = family(pid(c) for c in town.supervisor.brokers.values())
    rest = family([os.getpid()]) - nodes - brokers
    found = {"nodes": memory(nodes), "brokers": memory(brokers), "supervisor": memory(rest)}
    return {k: pss for k, (pss, _) in found.items()}, sum(rss for _, rss in found.values())


def _baseline(count: int) -> float:
    """PSS in MB of `count` bare Python processes and `count` idle brokers, all at once."""
    first = free_block()
    with tempfile.TemporaryDirectory(prefix="sanji-bench-") as folder:
        commands = [[sys.executable, "-c", BARE]] * count
        commands += [[str(BROKER), "-a", "127.0.0.1", "-p", str(first + n), "-sd", folder] for n in range(count)]
        started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for c in commands]
        try:
            _imported(started[:count])
            time.sleep(1)
            return memory(p.pid for p in started)[0]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.communicate(timeout=20)


def _imported(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Wait until each has imported everything, which it says by a line."""
    for process in processes:
        if process.stdout is None or process.stdout.readline() != b"\n":
            raise RuntimeError("a bare process could not import the node's modules")
