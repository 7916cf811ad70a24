"""Raw pull and raw insert, the baseline of folding: messages of a node's own stream go into the tables of an empty database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.store import Raw, Row
from tests.bench.wire import api, broker, facts

PORTION = 20
"""Messages that are asked for at a time, as the node's own reader does."""

BATCH = 300
"""Facts to a commit where every fact has a message of its own: as many as the publisher puts into one."""


async def messages(connection: Any, stream: str, subject: str, count: int, portion: int = PORTION) -> AsyncIterator[list[Any]]:
    """Portions of the messages under `subject` from the first on, until they held `count` facts. Raises TimeoutError."""
    pull = await connection.jetstream().pull_subscribe(subject, stream=stream)
    there = 0
    while there < count:
        portions = await pull.fetch(portion, timeout=60)
        there += sum(facts(m.data) for m in portions)
        yield portions
    await api(connection, f"API.CONSUMER.DELETE.{stream}.{(await pull.consumer_info()).name}")


@dataclass
class Rows:
    """Rows by table that a node holds after `count` facts; a part of the facts gets its share of each table."""

    tables: dict[str, list[Row]]
    count: int
    like: Path

    def part(self, first: int, last: int) -> dict[str, Sequence[Row]]:
        return {t: rows[first * len(rows) // self.count : last * len(rows) // self.count] for t, rows in self.tables.items()}


async def raw(base: Path, code: str, subject: str, rows: Rows, *, indexes: bool = True, single: bool = False) -> float:
    """Facts a second. A message is acknowledged after the commit that holds its rows; with `single` a portion has one commit."""
    target, done = Raw(base / "raw.db", rows.like, list(rows.tables), indexes), 0
    async with broker(base, code) as connection:
        begun = time.perf_counter()
        async for portion in messages(connection, f"EV_{code}", subject, rows.count, BATCH if single else PORTION):
            for group in [portion] if single else [[m] for m in portion]:
                fresh = sum(facts(m.data) for m in group)
                target.commit(rows.part(done, done + fresh))
                done += fresh
                await asyncio.gather(*(m.ack() for m in group))
        seconds = time.perf_counter() - begun
    target.close()
    return rows.count / seconds


async def one_by_one(base: Path, code: str, subject: str, target: str, count: int) -> None:
    """Put the first `count` facts of the messages under `subject` again into the stream, each in a message under `target`."""
    lines: list[bytes] = []
    async with broker(base, code) as connection:
        async for portion in messages(connection, f"EV_{code}", subject, count):
            lines += [line for m in portion for line in m.data.split(b"\n")[1:]]
        stream = connection.jetstream()
        for start in range(0, count, BATCH):
            part = lines[start : min(start + BATCH, count)]
            await asyncio.gather(*(stream.publish(target, b"\n" + line, timeout=30) for line in part))
