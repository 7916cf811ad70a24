"""Seals a service's log and sends it to the node's own stream, oldest first, until the broker confirmed it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from shared import log as logs
from shared.chain import Head, encode
from shared.database import writing
from shared.link import Link

BATCH = 300
"""Facts in one bus message at most: enough that the broker's disk flush costs each little."""
SEAL = 1000
"""Facts that are sealed at once."""


@dataclass
class Publisher:
    """Publishes the log of `service` of the link's node."""

    link: Link
    service: str

    def __post_init__(self) -> None:
        self.wake = asyncio.Event()
        self.log = self.link.node.log(self.service)

    async def turn(self) -> None:
        """Seal and send one batch; then, unless there is more, wait until something was committed.

        One of each, in turn: under a load without pause there is always something more to seal.
        """
        if not await self.link.mine(f"publish {self.log}"):
            return
        self.wake.clear()
        sealed = await self.link.thread(logs.seal, self.link.engine, self.log, SEAL)
        if await self._send() or sealed == SEAL:
            return
        try:
            await asyncio.wait_for(self.wake.wait(), 0.5)
        except TimeoutError:
            return
        # What comes together within a moment shares one message and one flush.
        await asyncio.sleep(0.05)

    async def _send(self) -> bool:
        """Send the next batch; whether more is sealed behind it."""
        known = await self.link.head(logs.PUBLISHER, self.log)
        found, closing = await self.link.thread(logs.read_range, self.link.engine, self.log, known.seq + 1, BATCH)
        if not found:
            return False
        last = found[-1]
        headers = {"Nats-Msg-Id": f"{self.log}:{last.epoch}:{last.seq}"}
        subject = f"{self.link.node.code}.{self.service}"
        await self.link.js.publish(subject, encode(self.log, found, closing), timeout=5, headers=headers)
        await self.link.thread(self._moved, known, Head(last.epoch, last.seq, closing))
        return last.seq < (await self.link.head(logs.SEALER, self.log)).seq

    def _moved(self, old: Head, new: Head) -> None:
        with writing(self.link.engine) as connection:
            logs.move_head(connection, logs.PUBLISHER, self.log, old, new)
