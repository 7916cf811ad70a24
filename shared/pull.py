"""Takes messages of a durable consumer as they come: one standing request; what arrived together is handed on together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout

BATCH = 40
"""Messages that one standing request may bring."""
EXPIRES = 4.0
"""Seconds after which a request that brought nothing is made anew, so that a broker that forgot it costs no more than that."""


class Gone(NatsError):  # type: ignore[misc]
    """The consumer is not there, or the broker says that the request failed."""


@dataclass
class Pull:
    """One consumer's messages.

    The client's own fetch() waits until a whole batch has come or the time is over, which would delay every message at a low
    rate by seconds; here the first one is handed on at once, with those that have come behind it.
    """

    nc: Any
    stream: str
    durable: str
    _sub: Any = None
    _asked: int = 0

    async def gather(self) -> list[Any]:
        """Messages in order, at least one; [] when there was none within EXPIRES. Raises Gone, NatsError."""
        if self._sub is None:
            self._inbox = self.nc.new_inbox()
            self._sub = await self.nc.subscribe(self._inbox)
        if self._asked <= 0:
            await self._ask()
        found: list[Any] = []
        try:
            # The first is waited for, the rest is what lies there already.
            while not found or self._sub.pending_msgs:
                message = await self._sub.next_msg(timeout=EXPIRES + 1)
                if self._is_message(message):
                    self._asked -= 1
                    found.append(message)
                elif not found:
                    return []
        except NatsTimeout:
            self._asked = 0
        return found

    async def _ask(self) -> None:
        self._asked = BATCH
        ask = {"batch": BATCH, "expires": int(EXPIRES * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.durable}"
        await self.nc.publish(subject, orjson.dumps(ask), self._inbox)

    def _is_message(self, message: Any) -> bool:
        """False for the broker's word that the request is over. Raises Gone where it is over for another reason than time.

        Only what wants to be acknowledged is a message. Its headers say nothing: they are the sender's to write.
        """
        if message.reply:
            return True
        status = (message.headers or {}).get("Status", "")
        self._asked = 0
        if status not in ("404", "408"):
            raise Gone(f"{status} {(message.headers or {}).get('Description', '')}".strip())
        return False

    async def close(self) -> None:
        if self._sub is not None:
            sub, self._sub = self._sub, None
            # A connection that is gone has no subscription left to end.
            with suppress(NatsError):
                await sub.unsubscribe()
