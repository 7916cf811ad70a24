"""Copies of the service that send, for tests: each with a writer, a clock and settings of its own, in this process or another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from services.case import book, notices, outbox, webhooks
from services.case.delivery import Delivery
from services.case.outbox import Draft
from services.case.webhooks import Signer, Subscription
from shared.auth import Caller
from shared.database import Tx, open_engine, reading
from shared.settings import Broker, Names, Node
from shared.writer import Writer
from tests.world import Around

NODE = "99"


def settings(folder: Path) -> Node:
    """Just what sending needs to know of a node; it talks to no broker."""
    broker = Broker(url="nats://127.0.0.1:9", user="node", password="none", monitor="http://127.0.0.1:9")
    return Node(code=NODE, names=Names(zh="某区", en="Some"), zone="Asia/Shanghai", calendar="cn", path=(NODE,),
                database_url="sqlite://", broker=broker, port=9, pack=folder, secrets=folder / "secrets")  # fmt: skip


class Copy:
    """One copy of the service that sends, on a clock that the test moves."""

    def __init__(self, engine: Engine, folder: Path, clock: Callable[[], datetime]) -> None:
        self.engine, self.clock = engine, clock
        self.node = settings(folder)
        self.writer = Writer(engine, NODE, now=clock)
        self.signer = Signer(folder / "webhooks.key")
        names = {"zh": "某区", "en": "Some"}
        self.delivery = Delivery(engine, self.writer, lambda: self.node, Around(), lambda _: names, self.signer)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let it work for a while, or until something holds."""

        async def work() -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not until():
                await self.delivery.turn()
            await self.delivery.stop()

        asyncio.run(work())

    def put(self, *drafts: Draft) -> None:
        self.writer.run(lambda tx: outbox.put(tx, drafts))

    def hook(self, url: str, *events: str) -> dict[str, Any]:
        wanted = Subscription.model_validate({"url": url, "events": events or ("reached",)})

        def work(tx: Tx) -> dict[str, Any]:
            book.changed(tx.connection)
            return webhooks.register(tx, wanted, "boss")

        return self.writer.run(work)

    def items(self, **sought: Any) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            return outbox.page(connection, outbox.Sought(limit=500, **sought))[::-1]

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """What the administrators were told."""
        with reading(self.engine) as connection:
            found, _ = notices.mine(connection, Caller("boss", frozenset({"administrator"})))
        return [(n["kind"], n["detail"]) for n in found]


def send_until_killed(url: str, folder: str, ahead: float) -> None:
    """A process that sends, with a clock so many seconds ahead."""
    engine = open_engine(url)
    copy = Copy(engine, Path(folder), lambda: datetime.now(UTC) + timedelta(seconds=ahead))
    copy.run(60)
