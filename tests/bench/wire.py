"""Raw NATS for the baselines: connections to a node's broker, its streams and consumers, by the broker's own JSON interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import orjson

from shared.settings import load as load_node


@asynccontextmanager
async def broker(base: Path, code: str) -> AsyncIterator[Any]:
    """A connection to the broker of node `code`, whose files lie under `base`."""
    at = load_node(base / code / "node.json").broker
    connection = await nats.connect(at.url, user=at.user, password=at.password)
    try:
        yield connection
    finally:
        await connection.close()


async def api(connection: Any, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask JetStream; `subject` is what follows `$JS.`. Raises RuntimeError with the broker's reason."""
    answer: dict[str, Any] = orjson.loads((await connection.request(f"$JS.{subject}", orjson.dumps(body or {}), timeout=10)).data)
    if "error" in answer:
        raise RuntimeError(f"{subject}: {answer['error']}")
    return answer


async def forget_consumers(base: Path, code: str) -> None:
    """Delete every consumer of a node's stream, so that its next readers begin at the first message."""
    async with broker(base, code) as connection:
        for name in (await api(connection, f"API.CONSUMER.NAMES.EV_{code}"))["consumers"]:
            await api(connection, f"API.CONSUMER.DELETE.EV_{code}.{name}")


async def attached(base: Path, code: str, children: int) -> bool:
    """Whether a node's stream hears the streams of all its children."""
    async with broker(base, code) as connection:
        sources = (await api(connection, f"API.STREAM.INFO.EV_{code}")).get("sources") or []
        return len(sources) == children and all("error" not in s and s["active"] >= 0 for s in sources)


def facts(message: bytes) -> int:
    """Facts in a bus message: one line each, after the first."""
    return message.count(b"\n")


async def deliver(
    connection: Any, stream: str, to: str, hear: Callable[[Any], Awaitable[None]], *, subject: str = ">", fresh: bool = False,
    domain: str = "",
) -> None:  # fmt: skip
    """Have a stream's messages pushed to subject `to` of this connection; `fresh`: only those yet to come. Unacknowledged."""
    await connection.subscribe(to, cb=hear)
    config = {
        "deliver_subject": to, "ack_policy": "none", "deliver_policy": "new" if fresh else "all", "filter_subject": subject,
        "inactive_threshold": 60_000_000_000,
    }  # fmt: skip
    await api(connection, f"{domain}API.CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
