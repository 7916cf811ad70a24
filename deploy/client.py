"""Asks nodes from outside, as a county's platform or a reader would: pushes events, reads figures, waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from shared.auth import new_key
from shared.database import open_engine
from shared.settings import load as load_node

QUANTITIES = ("reported", "refused", "filed", "closed")
Figures = dict[tuple[str, ...], tuple[int, ...]]


def key_of(base: Path, code: str, source: str) -> str:
    """A new API key of node `code` for the platform `source`, good for a day."""
    node = load_node(base / code / "node.json")
    engine = open_engine(node.database_url)
    try:
        return new_key(engine, code, "integrator", source, days=1)
    finally:
        engine.dispose()


def ready(port: int) -> bool:
    """Whether the process on `port` says that it may be trusted with work."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def push(port: int, key: str, events: list[dict[str, Any]], patience: float = 60) -> list[dict[str, Any]]:
    """Push until every event was answered; answers what became of each: {id, outcome, case?, field?, reason?}.

    A node that is down or busy is asked again, which is safe by (source, id). Raises TimeoutError when patience ends,
    RuntimeError for a refusal of the whole batch.
    """
    until = time.monotonic() + patience
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents-batch+json"}
    while True:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/api/case/v1/events", json=events, timeout=20, headers=headers)
            if answer.status_code == 200:
                return list(answer.json()["items"])
            if answer.status_code not in (429, 500, 503):
                raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")
        except httpx.TransportError:
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"the node on port {port} took nothing for {patience:.0f} s")
        time.sleep(0.3)


def figures(port: int, by: str, names: tuple[str, ...] = QUANTITIES) -> Figures:
    """Figures of a node by the dimensions `by`, as {values of the dimensions: counts in the order of `names`}."""
    answer = httpx.get(f"http://127.0.0.1:{port}/api/evaluation/v1/figures", params={"by": by}, timeout=20)
    items = answer.raise_for_status().json()["items"]
    return {tuple(i[d] for d in by.split(",")): tuple(i[n] for n in names) for i in items}


def settle(
    port: int, truth: Mapping[tuple[str, ...], Mapping[str, int]], tend: Callable[[], None], patience: float = 60,
    by: str = "origin,category",
) -> bool:  # fmt: skip
    """Wait until the figures at `port` equal `truth`, calling `tend` meanwhile; False when patience ends first."""
    wanted = {key: tuple(counts.get(n, 0) for n in QUANTITIES) for key, counts in truth.items()}
    until = time.monotonic() + patience
    while time.monotonic() < until:
        tend()
        try:
            if figures(port, by) == wanted:
                return True
        except (httpx.HTTPError, KeyError):
            pass
        time.sleep(0.2)
    return False
