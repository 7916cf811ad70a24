"""Streams and consumers of a node on its broker, by the broker's own JSON interface, which knows fields the client does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.request import urlopen

import orjson
from nats.errors import Error as NatsError

STREAM_BYTES = 4 * 1024**3
"""Room of a node's stream; when it is full new messages are refused (and wait in the log), old ones are never dropped."""


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


async def ensure_stream(nc: Any, node: str, children: list[str]) -> None:
    """Make or extend the node's stream. Its sequences start at the clock: a stream made anew never repeats old ones.

    A child becomes a source only once its stream answers: a source named before there is one is tried again by the broker
    after a pause of up to a minute. Called again and again, so that every child comes in.
    """
    name = f"EV_{node}"
    config: dict[str, Any] = {
        "name": name, "subjects": [f"{node}.>"], "storage": "file", "retention": "limits", "discard": "new",
        "max_bytes": STREAM_BYTES, "duplicate_window": 120_000_000_000,
    }  # fmt: skip
    try:
        config = (await ask(nc, f"STREAM.INFO.{name}", {}))["config"]
    except Refused:
        await ask(nc, f"STREAM.CREATE.{name}", config | {"first_seq": int(time.time() * 1000)})
    kept = [s for s in config.get("sources") or [] if s["name"] in {f"EV_{c}" for c in children}]
    missing = [c for c in children if f"EV_{c}" not in {s["name"] for s in kept}]
    there = await asyncio.gather(*(_answers(nc, child) for child in missing))
    fresh = [source(child) for child, answers in zip(missing, there, strict=True) if answers]
    if fresh or len(kept) < len(config.get("sources") or []):
        await ask(nc, f"STREAM.UPDATE.{name}", config | {"sources": [*kept, *fresh]})


async def _answers(nc: Any, child: str) -> bool:
    """Whether the child's stream is there and within reach."""
    try:
        reply = await nc.request(f"$JS.{child}.API.STREAM.INFO.EV_{child}", b"{}", timeout=1)
    except (NatsError, TimeoutError):
        return False
    return "error" not in orjson.loads(reply.data)


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
