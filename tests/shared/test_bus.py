"""A node's bus on a real broker that comes late, closes, is full or under load: facts get through, and all heals by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

import shared.link
from deploy.migrate import migrate
from services.case.commands import Report, report
from services.evaluation.handlers import READER, fold
from services.evaluation.recount import recount
from shared import broker
from shared import log as logs
from shared.bus import Bus
from shared.chain import EMPTY, Entry, decode
from shared.database import open_engine
from shared.loops import Loops
from shared.publish import BATCH
from shared.reader import Reader, waiting
from shared.writer import Writer
from tests.brokers import Brokers, brokers, until
from tests.world import Around, desk

PARENT, CHILD, OTHER = "650000", "650100", "650200"
TREE = ((PARENT, None), (CHILD, PARENT), (OTHER, PARENT))
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


@asynccontextmanager
async def running(at: Brokers, code: str, url: str | None = None) -> AsyncIterator[Bus]:
    """The bus of one node with a database of its own, as its process would run it."""
    node = at.node(code)
    engine = open_engine(url or node.database_url)
    migrate(engine)
    bus = Bus(node, engine, Loops(), ("case",), ((Reader(READER, engine, fold), "case"),))
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()
        engine.dispose()


def reported(bus: Bus, count: int) -> None:
    """File `count` reports at the node of `bus`."""
    at = desk(bus.link.engine, bus.link.node.code)
    for _ in range(count):
        at.report()


def stored(bus: Bus, bodies: list[bytes]) -> None:
    """Facts of any size, as a later release may state them: nobody here reads them."""
    log = bus.link.node.log("case")
    rows = [{"log": log, "fact_id": f"f{n}", "subject": "s", "type": "t", "body": body} for n, body in enumerate(bodies)]
    with bus.link.engine.begin() as connection:
        logs.write(connection, rows)


def folded(bus: Bus, origin: str) -> int:
    return bus.hearings[0].reader.verified().get(f"{origin}/case", EMPTY).seq


def reaches(bus: Bus, origin: str, count: int) -> Callable[[], Any]:
    async def wanted() -> bool:
        return await asyncio.to_thread(folded, bus, origin) == count

    return wanted


def well(bus: Bus) -> Callable[[], Any]:
    async def wanted() -> bool:
        return not bus.not_durable and not bus.link.loops.troubles()

    return wanted


def test_a_broker_that_comes_late_is_waited_for_without_holding_up_the_node(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        async with asyncio.timeout(40), running(at, PARENT) as bus:
            assert bus.not_durable, "a node without its broker is not ready"
            await asyncio.to_thread(reported, bus, 3)
            bus.committed()
            await asyncio.sleep(0.5)
            bus.follow(bus.link.node)
            assert set(bus.link.loops.states) == {"stream"}
            at.start(PARENT)
            assert await until(reaches(bus, PARENT, 3)) and await until(well(bus))

    with brokers(tmp_path, TREE[0], start=False) as at:
        asyncio.run(play(at))


def test_a_connection_that_was_closed_for_good_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives up for ever when a password is refused, even if only for a moment."""
    monkeypatch.setattr(shared.link, "CONNECT", 0.3)

    async def play(at: Brokers) -> None:
        conf = tmp_path / PARENT / "broker.conf"
        right = conf.read_text()
        async with running(at, PARENT) as bus:
            assert await until(well(bus))
            password = bus.link.node.broker.password
            conf.write_text(right.replace(password, "another"))
            at.reload(PARENT)

            async def closed() -> bool:
                return bool(bus.link.lost)

            assert await until(closed)
            await asyncio.to_thread(reported, bus, 4)
            bus.committed()

            async def named() -> bool:
                return "loop" not in bus.link.loops.troubles() and "stream" in bus.link.loops.troubles()

            assert await until(named, 30), "meanwhile readiness says so"
            conf.write_text(right)
            at.reload(PARENT)
            assert await until(reaches(bus, PARENT, 4), 20) and await until(well(bus), 20)
            asker = await at.connect(PARENT)
            found = await asker.request(f"rpc.{PARENT}.range", orjson.dumps({"log": f"{PARENT}/case", "first": 1}), timeout=3)
            assert len(decode(found.data)[1]) == 4, "it answers again, too"
            heads = orjson.loads((await asker.request(f"rpc.{PARENT}.heads", b"", timeout=3)).data)
            assert heads[f"{PARENT}/case"]["seq"] == 4
            await asker.close()

    with brokers(tmp_path, TREE[0]) as at:
        asyncio.run(play(at))


def test_what_is_sealed_goes_out_under_a_load_without_pause(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        async with running(at, PARENT) as bus:
            assert await until(well(bus))
            over, around, writer = threading.Event(), Around(), Writer(bus.link.engine, PARENT)
            writer.committed = bus.committed

            def press() -> None:
                while not over.is_set():
                    for done in [writer.submit(lambda tx: report(tx, around, Report("E0101", 1.0, 1.0))) for _ in range(100)]:
                        done.result()

            pressing = threading.Thread(target=press)
            pressing.start()
            try:
                heard = 0
                for _ in range(4):
                    await asyncio.sleep(1)
                    before, heard = heard, await asyncio.to_thread(folded, bus, PARENT)
                    assert heard > before
            finally:
                over.set()
                pressing.join()
                writer.close()

    with brokers(tmp_path, TREE[0]) as at:
        asyncio.run(play(at))


def test_batches_and_ranges_fit_a_message_whatever_the_size_of_facts(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        async with running(at, PARENT) as bus:
            assert await until(well(bus))
            client = await at.connect(PARENT)
            subscription = await client.jetstream().subscribe(f"{PARENT}.case", ordered_consumer=True)
            bodies = [b'{"n":%d,"x":"' % n + b"x" * 5000 + b'"}' for n in range(BATCH)] + [b"y" * 600_000] * 2
            stored(bus, bodies)
            bus.committed()
            found: list[Entry] = []
            while len(found) < len(bodies):
                found += decode((await subscription.next_msg(timeout=10)).data)[1]
            assert [e.body for e in found] == bodies
            ranged: list[Entry] = []
            while len(ranged) < len(bodies):
                ask = {"log": f"{PARENT}/case", "first": len(ranged) + 1}
                ranged += decode((await client.request(f"rpc.{PARENT}.range", orjson.dumps(ask), timeout=5)).data)[1]
            assert ranged == found and not bus.link.lost
            await client.close()

    with brokers(tmp_path, TREE[0]) as at:
        asyncio.run(play(at))


@pytest.mark.parametrize(
    "ask", [b"", b"{}", b"[]", b"5", b'{"log":"650000/case","first":1e40}', b'{"log":"650000/case","first":-1}',
            b'{"log":"nobody/nothing","first":1}', b'{"log":5,"first":"x"}',
            b'{"log":"650000/case","first":99999999999999999999}'],
    ids=range(9),
)  # fmt: skip
def test_a_question_that_makes_no_sense_gets_an_empty_answer(tmp_path: Path, ask: bytes) -> None:
    async def play(at: Brokers) -> None:
        async with running(at, PARENT) as bus:
            assert await until(well(bus))
            client = await at.connect(PARENT)
            assert (await client.request(f"rpc.{PARENT}.range", ask, timeout=3)).data == b""
            await client.close()

    with brokers(tmp_path, TREE[0]) as at:
        asyncio.run(play(at))


def test_a_full_stream_makes_room_and_nothing_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a node's stream holds is bounded; that must end no publishing for ever, neither its own nor that of those below."""
    monkeypatch.setattr(broker, "STREAM_BYTES", 200_000)

    async def play(at: Brokers) -> None:
        async with running(at, PARENT) as above, running(at, CHILD) as below:
            assert await until(well(above)) and await until(well(below))
            for part in range(1, 5):
                await asyncio.to_thread(reported, below, 250)
                below.committed()
                assert await until(reaches(above, CHILD, 250 * part), 20)
            for bus in (above, below):
                code = bus.link.node.code
                state = (await broker.ask(bus.link.nc, f"STREAM.INFO.EV_{code}", {}))["state"]
                assert state["bytes"] <= 200_000
            assert await until(well(above)) and await until(well(below))

    with brokers(tmp_path, *TREE[:2]) as at:
        asyncio.run(play(at))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_copies_that_know_nothing_of_each_other_lose_and_double_nothing(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Both seal, publish and hear the same log of the same database: what one has done the other finds done."""

    async def play(at: Brokers, url: str | None) -> None:
        async with running(at, PARENT, url=url) as one, running(at, PARENT, url=url) as other:
            assert await until(well(one)) and await until(well(other))
            threads = [asyncio.to_thread(reported, bus, 150) for bus in (one, other)]
            pressing = asyncio.gather(*threads)
            while not pressing.done():
                one.committed()
                other.committed()
                await asyncio.sleep(0.01)
            await pressing
            assert await until(reaches(one, PARENT, 300), 20)
            assert await until(well(one)) and await until(well(other))
            assert recount(one.link.engine) == [] and waiting(one.link.engine, READER) == {}
            facts, end = logs.read_range(one.link.engine, f"{PARENT}/case", 1)
            assert [e.seq for e in facts] == list(range(1, 301)) and len({e.body for e in facts}) == 300
            assert one.hearings[0].reader.verified()[f"{PARENT}/case"].chain == end

    with brokers(tmp_path, TREE[0]) as at:
        asyncio.run(play(at, request.getfixturevalue("postgres").fresh() if kind == "postgresql" else None))
