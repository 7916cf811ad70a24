"""A node whose child is faulty, slow or hostile, leaves or moves: the others are heard, and the node stays fit for work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import pytest

from deploy.migrate import migrate
from shared import broker
from shared import log as logs
from shared.bus import Bus
from shared.chain import encode
from shared.database import open_engine
from shared.reader import waiting
from shared.settings import Below, Names
from tests.brokers import Brokers, brokers, until
from tests.shared.test_bus import CHILD, OTHER, PARENT, TREE, reaches, reported, running, well
from tests.world import desk

LOG = f"{CHILD}/case"
AHEAD = orjson.dumps({LOG: {"seq": 1000, "chain": "ab" * 32, "ahead": 1000, "age": 0.0}})
MANY = orjson.dumps({f"{n:06d}/case": {"seq": n, "chain": "ab" * 32} for n in range(11_000)})


async def played(at: Brokers, answers: dict[str, Callable[[], bytes | None]]) -> Any:
    """A child that only answers, as it likes: a client with the credentials of its link; None is no answer."""
    client = await at.connect(PARENT, f"leaf_{CHILD}", (CHILD, "leaf"))

    async def answer(message: Any) -> None:
        kind = "stream" if message.subject.startswith("$JS.") else message.subject.split(".")[-1]
        said = answers.get(kind, lambda: None)()
        if said is not None:
            await client.publish(message.reply, said)

    for subject in (f"rpc.{CHILD}.>", f"$JS.{CHILD}.API.>"):
        await client.subscribe(subject, cb=answer)
    await client.flush()
    return client


async def others_get_through(above: Bus, at: Brokers, seconds: float) -> None:
    """The parent stays fit for work for so long, and what the other child states arrives meanwhile."""
    async with running(at, OTHER) as beside:
        assert await until(well(above)) and await until(well(beside))
        await asyncio.to_thread(reported, beside, 5)
        beside.committed()
        assert await until(reaches(above, OTHER, 5), 10)
        end = monotonic() + seconds
        while monotonic() < end:
            failing = {name: state.error for name, state in above.link.loops.states.items() if state.failures}
            assert failing == {} and above.not_durable == ""
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "said", [b"", b"null", b"[]", b"5", b'"x"', b'{"%s":5}', b'{"%s":{"seq":"x"}}', b'{"%s":{"seq":1e99}}', b'{"%s":{"seq":-1}}',
             b'{"%s":{"age":null}}', b'{"%s":{"chain":[]}}', MANY, AHEAD, None],
    ids=range(14),
)  # fmt: skip
def test_a_child_that_answers_nonsense_harms_nobody_else(tmp_path: Path, said: bytes | None) -> None:
    said = said.replace(b"%s", LOG.encode()) if said else said

    async def play(at: Brokers) -> None:
        faulty = await played(at, dict.fromkeys(("heads", "range", "stream"), lambda: said))
        async with running(at, PARENT) as above:
            await others_get_through(above, at, 3)
        await faulty.close()

    with brokers(tmp_path, *TREE, start=False) as at:
        at.start(PARENT)
        at.start(OTHER)
        asyncio.run(play(at))


@pytest.mark.parametrize("range_", ["never", "wrong"])
def test_a_child_that_has_facts_and_does_not_hand_them_over(tmp_path: Path, range_: str) -> None:
    asked: list[bytes] = []

    def wrong() -> bytes | None:
        asked.append(b"nonsense %d" % len(asked))
        return asked[-1] if range_ == "wrong" else None

    async def play(at: Brokers) -> None:
        faulty = await played(at, {"heads": lambda: AHEAD, "range": wrong})
        async with running(at, PARENT) as above:
            await others_get_through(above, at, 7)
            assert above.ahead[LOG].seq == 1000 and asked
            if range_ == "wrong":
                assert len(asked) == 1, "what was wrong a moment ago is not asked for each second"
                assert waiting(above.link.engine, "evaluation") == {LOG: 1}
        await faulty.close()

    with brokers(tmp_path, *TREE, start=False) as at:
        at.start(PARENT)
        at.start(OTHER)
        asyncio.run(play(at))


def test_a_child_that_leaves_is_forgotten_and_one_that_comes_back_is_heard(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        async with running(at, PARENT) as above, running(at, OTHER) as beside:
            assert await until(well(above)) and await until(well(beside))
            await asyncio.to_thread(reported, beside, 5)
            beside.committed()
            assert await until(reaches(above, OTHER, 5))
            whole = above.link.node
            without = whole.model_copy(update={"subtree": tuple(b for b in whole.subtree if b.code != OTHER)})
            above.follow(without)
            names = {f"hear {OTHER}/case", f"compare {OTHER}"}
            assert not names & above.link.loops.states.keys() and f"{OTHER}/case" not in above.ahead

            async def sources() -> bool:
                config = (await broker.ask(above.link.nc, f"STREAM.INFO.EV_{PARENT}", {}))["config"]
                return "EV_650200" not in {s["name"] for s in config.get("sources") or []}

            assert await until(sources), "its stream is no source any more"
            await asyncio.to_thread(reported, beside, 5)
            beside.committed()
            await asyncio.sleep(1)
            assert not await reaches(above, OTHER, 10)() and f"{OTHER}/case" not in above.ahead and await well(above)()
            above.follow(whole)
            assert await until(reaches(above, OTHER, 10)) and names <= above.link.loops.states.keys()

    with brokers(tmp_path, *TREE, start=False) as at:
        at.start(PARENT)
        at.start(OTHER)
        asyncio.run(play(at))


def test_a_node_that_moves_below_another_is_heard_from_there(tmp_path: Path) -> None:
    moving = "650102"
    engine = open_engine(f"sqlite:///{tmp_path}/moving.db")

    def batch(count: int, first: int) -> bytes:
        for _ in range(count):
            desk(engine, moving).report()
        logs.seal(engine, f"{moving}/case")
        return encode(f"{moving}/case", *logs.read_range(engine, f"{moving}/case", first))

    def below(above: Bus, parent: str) -> None:
        names = Names(zh="x", en="x")
        fresh = Below(code=moving, parent=parent, names=names, zone="UTC", route=(parent, moving))
        kept = tuple(b for b in above.link.node.subtree if b.code != moving)
        above.follow(above.link.node.model_copy(update={"subtree": (*kept, fresh)}))

    async def play(at: Brokers) -> None:
        clients = {code: await at.connect(code) for code in (CHILD, OTHER)}
        for code, client in clients.items():
            await broker.ensure_stream(client, code, [], 2)
            config = (await broker.ask(client, f"STREAM.INFO.EV_{code}", {}))["config"]
            await broker.ask(client, f"STREAM.UPDATE.EV_{code}", config | {"subjects": [f"{code}.>", f"{moving}.>"]})
        async with running(at, PARENT) as above:
            below(above, CHILD)
            assert await until(well(above))
            await clients[CHILD].jetstream().publish(f"{moving}.{moving}.case", batch(3, 1))
            assert await until(reaches(above, moving, 3))
            below(above, OTHER)
            await clients[OTHER].jetstream().publish(f"{moving}.{moving}.case", batch(4, 4))
            assert await until(reaches(above, moving, 7))
            assert await until(well(above))

    migrate(engine)
    with brokers(tmp_path, *TREE) as at:
        asyncio.run(play(at))
