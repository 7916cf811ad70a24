"""What the command line shows: nodes, links, checked logs, the outcome of an import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from sqlalchemy import Connection, select

from deploy import client
from deploy.replay import Replay
from deploy.supervisor import Supervisor
from deploy.topology import Topology
from deploy.verify import Checked
from shared.reader import quarantine

LISTED = 20


def nodes(topology: Topology) -> Table:
    """Every node with its page and whether it is ready."""
    table = Table("node", "name", "page", "ready")
    for spec in topology.nodes:
        indent = "  " * (len(topology.path(spec.code)) - 1)
        table.add_row(indent + spec.code, spec.names.en, spec.url, mark(client.ready(spec.port)))
    return table


def mark(good: bool) -> str:
    return "[green]yes[/green]" if good else "[red]no[/red]"


def links(topology: Topology) -> Table:
    """How well each node hears the logs below it."""
    table = Table("hears", "log", "state", "verified", "behind by", "quarantined")
    for spec in topology.nodes:
        try:
            answer = httpx.get(f"{spec.url}api/evaluation/v1/links", timeout=5).json()["links"]
        except (httpx.HTTPError, KeyError, ValueError):
            continue
        for link in answer:
            figures = [str(link[name]) for name in ("verified_seq", "lag_events", "quarantine")]
            table.add_row(spec.code, link["log"], link["state"], *figures)
    return table


def checked(found: Sequence[Checked]) -> Table:
    table = Table("log", "facts", "chain", "fault")
    for one in found:
        table.add_row(one.log, str(one.facts), one.chain.hex()[:16], one.fault or "none")
    return table


def quarantined(connection: Connection) -> Table:
    """Batches that were never applied, the latest first."""
    table = Table("log", "from", "to", "reason", "times", "received (UTC)")
    columns = [quarantine.c[n] for n in ("log", "first_seq", "last_seq", "reason", "times", "received_at")]
    for row in connection.execute(select(*columns).order_by(quarantine.c.received_at.desc()).limit(200)):
        table.add_row(*map(str, row))
    return table


def outcome(replay: Replay) -> Group:
    """Counts by outcome and the refused events, the first of them in words."""
    parts: list[Any] = [", ".join(f"{n} {o}" for o, n in sorted(replay.outcomes.items())) or "nothing was left to do"]
    if replay.refused:
        table = Table("node", "event", "field", "reason")
        for item in replay.refused[:LISTED]:
            table.add_row(item["node"], str(item["id"]), item.get("field"), item.get("reason"))
        where = replay.base / f"import-{replay.dataset}.refused.ndjson"
        parts += [table, f"all {len(replay.refused)} refused events: {where}; they wait in each node's quarantine"]
    return Group(*parts)


def processes(supervisor: Supervisor, note: str = "") -> Group:
    """Every node and its broker: pid, restarts, readiness."""
    table = Table("node", "name", "page", "broker", "node", "restarts", "ready")
    for spec in supervisor.topology.nodes:
        own = [c for n, c in supervisor.nodes.items() if n.partition("/")[0] == spec.code]
        broker = supervisor.brokers.get(spec.code)
        restarts = sum(max(0, c.restarts) for c in (*own, *([broker] if broker else [])))
        pids = " ".join(str(c.pid or "-") for c in own)
        indent = "  " * (len(supervisor.topology.path(spec.code)) - 1)
        table.add_row(
            indent + spec.code, spec.names.en, spec.url, str(broker.pid if broker else "-"), pids,
            str(restarts), mark(client.ready(spec.port)),
        )  # fmt: skip
    return Group(table, note or "Ctrl-C stops all of it; kill any of these processes and watch it come back.")


def watch(
    supervisor: Supervisor, console: Console, changed: Callable[[], Topology], step: Callable[[], str] = lambda: ""
) -> None:
    """Tend the federation and show its state until it is told to stop; without a terminal only once."""
    if not console.is_terminal:
        console.print(processes(supervisor))
        supervisor.run(step, changed)
        return
    with Live(processes(supervisor), console=console, refresh_per_second=2) as live:
        supervisor.run(lambda: live.update(processes(supervisor, step())), changed)
