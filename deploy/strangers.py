"""Ends links at a broker whose accounts are gone: reloading takes an account away, but leaves its connection, deaf and mute."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import nats
import orjson
from nats.errors import Error as NatsError

PATIENCE = 3.0
"""Seconds for a broker to take in a changed configuration."""


def loaded(monitor: str) -> str:
    """When the broker read its configuration last, as it says itself; empty where it does not answer."""
    try:
        return str(httpx.get(f"{monitor}/varz", timeout=2).json().get("config_load_time", ""))
    except httpx.HTTPError:
        return ""


def end(monitor: str, url: str, password: str, accounts: set[str], before: str) -> int:
    """Wait until the configuration is newer than `before`, end links of other accounts than `accounts`; answers how many.

    A child that comes back later would otherwise go on with a connection to an account that is no more, and never be heard.
    Does nothing at a broker that does not answer: it has no links.
    """
    until = time.monotonic() + PATIENCE
    while before and loaded(monitor) == before and time.monotonic() < until:
        time.sleep(0.05)
    try:
        found = httpx.get(f"{monitor}/leafz", timeout=2).json()
    except httpx.HTTPError:
        return 0
    strangers = [leaf["id"] for leaf in found.get("leafs") or [] if leaf["account"] not in accounts]
    try:
        if strangers:
            asyncio.run(_kick(url, password, found["server_id"], strangers))
    except (NatsError, TimeoutError, OSError):
        # It went away meanwhile, and its links with it.
        return 0
    return len(strangers)


async def _kick(url: str, password: str, server: str, numbers: list[Any]) -> None:
    client = await nats.connect(url, user="sys", password=password, allow_reconnect=False, connect_timeout=2)
    for number in numbers:
        await client.request(f"$SYS.REQ.SERVER.{server}.KICK", orjson.dumps({"cid": number}), timeout=2)
    await client.close()
