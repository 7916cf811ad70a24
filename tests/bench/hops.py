"""Raw messages from the counties' brokers to the region's through every hop of sourcing between, without any node's part."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

from tests.bench.federation import Federation
from tests.bench.wire import broker, deliver

BODY = 700
"""Bytes of a raw message: about a bus message with one fact."""

NAME = 40
"""Bytes at its head that name it."""


async def hops(town: Federation, rate: float, count: int) -> list[float]:
    """Times in ms from the publisher's confirmation to the arrival at the region's broker, of `count` messages at a fixed rate.

    They carry a subject that no service hears, in the streams that carry the facts. Raises RuntimeError if one never arrives.
    """
    arrived, confirmed = dict[bytes, float](), dict[bytes, float]()

    async def hear(message: Any) -> None:
        arrived[message.data[:NAME]] = perf_counter()

    async def send(stream: Any, code: str, number: int) -> None:
        name = f"{code}-{number}".encode().ljust(NAME)
        await stream.publish(f"{code}.bench", name.ljust(BODY), timeout=10)
        confirmed[name] = perf_counter()

    async with AsyncExitStack() as stack:
        region = await stack.enter_async_context(broker(town.base, town.root))
        await deliver(region, f"EV_{town.root}", region.new_inbox(), hear, subject=">", fresh=True)
        streams = [(c, (await stack.enter_async_context(broker(town.base, c))).jetstream()) for c in town.counties]
        begin, sends = perf_counter() + 0.2, []
        for number in range(count):
            await asyncio.sleep(max(0.0, begin + number / rate - perf_counter()))
            code, stream = streams[number % len(streams)]
            sends.append(asyncio.create_task(send(stream, code, number)))
        await asyncio.gather(*sends)
        last = perf_counter() + 30
        while confirmed.keys() - arrived.keys() and perf_counter() < last:
            await asyncio.sleep(0.01)
    if missing := len(confirmed.keys() - arrived.keys()):
        raise RuntimeError(f"{missing} of {count} raw messages never arrived")
    return [(arrived[n] - at) * 1000 for n, at in confirmed.items()]
