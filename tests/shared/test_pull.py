"""Messages of a durable consumer on a real broker: what a sender writes into one cannot pass for the broker's own word."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared import broker
from shared.pull import BATCH, Gone, Pull
from tests.brokers import Brokers, brokers

CODE = "650000"


async def prepared(at: Brokers) -> tuple[object, Pull]:
    client = await at.connect(CODE)
    await broker.ensure_stream(client, CODE, [])
    await broker.ensure_consumer(client, CODE, "r", f"{CODE}.case")
    return client, Pull(client, f"EV_{CODE}", "r")


@pytest.mark.parametrize("status", ["503", "408", "409", "nonsense"])
def test_a_message_that_looks_like_the_brokers_word_is_a_message(tmp_path: Path, status: str) -> None:
    """Headers are the sender's to write: one of these made a reader begin anew for ever."""

    async def play(at: Brokers) -> None:
        client, pull = await prepared(at)
        stream = client.jetstream()  # type: ignore[attr-defined]
        await stream.publish(f"{CODE}.case", b"", headers={"Status": status, "Description": "x"})
        await stream.publish(f"{CODE}.case", b"behind it")
        found = []
        while len(found) < 2:
            found += await pull.gather()
        assert [m.data for m in found] == [b"", b"behind it"]

    with brokers(tmp_path, (CODE, None)) as at:
        asyncio.run(play(at))


def test_more_than_one_request_brings_comes_in_order_and_silence_is_no_error(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        client, pull = await prepared(at)
        stream, count = client.jetstream(), 2 * BATCH + 5  # type: ignore[attr-defined]
        for n in range(count):
            await stream.publish(f"{CODE}.case", b"%d" % n)
        found: list[bytes] = []
        while len(found) < count:
            for message in await pull.gather():
                found.append(message.data)
                await message.ack()
        assert found == [b"%d" % n for n in range(count)]
        assert await pull.gather() == []
        await broker.ask(client, f"CONSUMER.DELETE.EV_{CODE}.r", {})
        with pytest.raises(Gone):
            await pull.gather()
        await pull.close()

    with brokers(tmp_path, (CODE, None)) as at:
        asyncio.run(play(at))
