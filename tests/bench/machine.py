"""What processes cost: processor seconds and resident memory, read from the kernel's own accounts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used so far."""
    # The name in parentheses may hold spaces; what follows it is plain.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def family(pids: Iterable[int]) -> set[int]:
    """The processes and everything that they started, at any depth."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            except OSError:
                # It ended while the list was read.
                continue
    found, more = set[int](), set(pids)
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in more} - found
    return found


def memory(pids: Iterable[int]) -> tuple[float, float]:
    """(PSS, RSS) of processes in MB. PSS shares out what several have in common, so its sum counts every page once."""
    pss = rss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                pss += int(value.split()[0])
            elif name == "Rss":
                rss += int(value.split()[0])
    return pss * 1024 / 1e6, rss * 1024 / 1e6
