"""Streams and consumers of a node on its broker, by the broker's own JSON interface, which knows fields the client does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.request import urlopen

import orjson
import structlog
from nats.errors import Error as NatsError

logger = structlog.get_logger()

STREAM_BYTES = 4 * 1024**3
"""Room of a node's stream; the broker itself drops nothing: when it were full, new messages would be refused and wait."""
FULL = 0.75
"""Share of the room from which the older half is removed. The log keeps all of it: whoever has not read it asks for the range."""
LARGEST, GROWTH = 900_000, 4096
"""Bytes of the largest message at the root, and by how much less each node below takes.

On its way up a message gets a longer subject. If a parent took what its own parent will not, the link between them would be
closed over that message again and again, and with it the way of every other node below.
"""


class Refused(Exception):
    """The broker answered with an error."""


async def ask(nc: Any, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = orjson.loads((await nc.request(f"$JS.API.{subject}", orjson.dumps(body), timeout=5)).data)
    if "error" in reply:
        raise Refused(f"{subject}: {reply['error'].get('description')} ({reply['error'].get('err_code')})")
    return dict(reply)


def source(child: str) -> dict[str, Any]:
    """The child's stream as a source; the child's code is put before its subjects, so the account stamps the sender."""
    return {
        "name": f"EV_{child}",
        "external": {"api": f"$JS.{child}.API", "deliver": f"dlv.{child}"},
        "subject_transforms": [{"src": ">", "dest": f"{child}.>"}],
    }


async def ensure_stream(nc: Any, node: str, children: list[str], depth: int = 1) -> None:
    """Make, extend or trim the stream of a node on the `depth`-th tier (1 = root).

    Its sequences start at the clock: a stream made anew never repeats old ones. A child becomes a source only once its stream
    answers: a source named before there is one is tried again by the broker after a pause of up to a minute. Called again and
    again, so that every child comes in.
    """
    name = f"EV_{node}"
    wanted: dict[str, Any] = {
        "name": name, "subjects": [f"{node}.>"], "storage": "file", "retention": "limits", "discard": "new",
        "max_bytes": STREAM_BYTES, "max_msg_size": LARGEST - GROWTH * depth, "duplicate_window": 120_000_000_000,
    }  # fmt: skip
    try:
        found = await ask(nc, f"STREAM.INFO.{name}", {})
    except Refused:
        found = await ask(nc, f"STREAM.CREATE.{name}", wanted | {"first_seq": int(time.time() * 1000)})
    config = found["config"]
    old = config.get("sources") or []
    kept = [s for s in old if s["name"] in {f"EV_{c}" for c in children}]
    missing = [c for c in children if f"EV_{c}" not in {s["name"] for s in kept}]
    there = await asyncio.gather(*(_answers(nc, child) for child in missing))
    fresh = [source(child) for child, answers in zip(missing, there, strict=True) if answers]
    if fresh or len(kept) < len(old) or not wanted.items() <= config.items():
        await ask(nc, f"STREAM.UPDATE.{name}", config | wanted | {"sources": [*kept, *fresh]})
    if found["state"]["bytes"] > FULL * STREAM_BYTES:
        purged = await ask(nc, f"STREAM.PURGE.{name}", {"keep": found["state"]["messages"] // 2})
        logger.info("stream_trimmed", log=node, count=purged.get("purged"))


async def _answers(nc: Any, child: str) -> bool:
    """Whether the child's stream is there and within reach."""
    try:
        reply = orjson.loads((await nc.request(f"$JS.{child}.API.STREAM.INFO.EV_{child}", b"{}", timeout=1)).data)
    except (NatsError, TimeoutError, ValueError):
        return False
    return isinstance(reply, dict) and "config" in reply


async def silent(nc: Any, node: str, child: str, seconds: float) -> bool:
    """Whether the source of `child` gave no sign of life for that long; the broker counts in nanoseconds, -1 for never."""
    for one in (await ask(nc, f"STREAM.INFO.EV_{node}", {})).get("sources") or []:
        if one["name"] == f"EV_{child}":
            return not 0 <= one.get("active", -1) < seconds * 1e9
    return False


async def restart_source(nc: Any, node: str, child: str) -> None:
    """Remove a stalled source and add it again; what it missed meanwhile comes by repair."""
    name = f"EV_{node}"
    config = (await ask(nc, f"STREAM.INFO.{name}", {}))["config"]
    others = [s for s in config.get("sources") or [] if s["name"] != f"EV_{child}"]
    await ask(nc, f"STREAM.UPDATE.{name}", config | {"sources": others})
    await ask(nc, f"STREAM.UPDATE.{name}", config | {"sources": [*others, source(child)]})


async def ensure_consumer(nc: Any, node: str, durable: str, subject: str) -> None:
    """A durable pull consumer of one origin and service; existing ones keep their place."""
    config = {
        "durable_name": durable, "ack_policy": "explicit", "deliver_policy": "all", "filter_subject": subject,
        "max_ack_pending": 200, "ack_wait": 30_000_000_000,
    }  # fmt: skip
    body = {"stream_name": f"EV_{node}", "config": config}
    await ask(nc, f"CONSUMER.DURABLE.CREATE.EV_{node}.{durable}", body)


def sync_always(monitor: str) -> bool:
    """Whether the broker flushes each message before it confirms it; without that a power cut loses confirmed ones."""
    with urlopen(f"{monitor}/varz", timeout=3) as answer:
        return bool(orjson.loads(answer.read()).get("jetstream", {}).get("config", {}).get("sync_always"))
