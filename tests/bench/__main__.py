"""Prints one JSON line for every figure; see `make bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial

from tests.bench import burst, catchup, filings, fold, latency, lifecycle, memory
from tests.bench.federation import say
from tests.bench.line import Figure, line

FIGURES: dict[str, Callable[[float, int], Figure]] = {
    "filings": filings.measure,
    "fold": fold.measure,
    "latency_100": partial(latency.measure, 100),
    "latency_200": partial(latency.measure, 200),
    "catchup_10k": catchup.measure,
    "memory_demo": memory.measure,
    "lifecycle_10k": partial(lifecycle.measure, 10_000),
    "lifecycle_100k": partial(lifecycle.measure, 100_000),
    "lifecycle_1m": partial(lifecycle.measure, 1_000_000),
    "search_1m": lifecycle.search,
    "burst": burst.measure,
}
"""Name → function of (scale of the sizes, number of runs)."""


def main() -> int:
    """0 only if every figure was measured and its own check passed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", default="", choices=["", *FIGURES], help="one figure")
    parser.add_argument("--scale", type=float, default=1.0, help="smaller sizes for a trial")
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure")
    given = parser.parse_args()
    # An orderly end takes the started processes and folders with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = 0
    for name, measure in FIGURES.items():
        if given.only not in ("", name):
            continue
        say(f"{name} ...")
        begun = time.monotonic()
        try:
            figure = measure(given.scale, given.runs)
        except Exception:
            traceback.print_exc()
            say(f"{name} FAILED after {time.monotonic() - begun:.0f} s")
            failed += 1
            continue
        say(f"{name} took {time.monotonic() - begun:.0f} s")
        os.write(1, line(name, figure) + b"\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
