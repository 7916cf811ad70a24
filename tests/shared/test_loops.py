"""Background loops: what fails is named and goes on, whatever it fails by; what is dropped ends and leaves its name."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from shared.loops import Loops, progressed


async def soon() -> None:
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", [ValueError("x"), asyncio.CancelledError()], ids=["error", "cancelled"])
def test_a_loop_outlives_what_its_turn_raises(fault: BaseException) -> None:
    """A client that closes cancels whoever waits for it; that must end no loop."""

    async def play() -> None:
        loops, turns = Loops(), 0

        async def turn() -> None:
            nonlocal turns
            turns += 1
            if turns <= 3:
                raise fault
            await soon()

        loops.start("a", turn)
        while turns < 3:
            await soon()
        await soon()
        assert type(fault).__name__ in loops.troubles()["a"]
        async with asyncio.timeout(5):
            while turns < 6:
                await soon()
        assert loops.troubles() == {}
        await loops.stop()
        assert loops.troubles() == {"a": "ended"}

    asyncio.run(play())


def test_a_long_turn_that_says_so_does_not_hang_and_a_silent_one_does() -> None:
    async def play() -> None:
        loops = Loops(patience=0.2)

        async def busy() -> None:
            end = monotonic() + 1
            while monotonic() < end:
                await soon()
                progressed()

        async def hanging() -> None:
            await asyncio.sleep(1)

        loops.start("busy", busy)
        loops.start("hanging", hanging)
        await asyncio.sleep(0.5)
        assert set(loops.troubles()) == {"hanging"}
        await loops.stop()

    asyncio.run(play())


def test_a_loop_that_is_dropped_ends_and_is_forgotten() -> None:
    async def play() -> None:
        loops, said = Loops(), []

        def turn(name: str) -> object:
            async def one() -> None:
                said.append(name)
                await soon()

            return one

        async def end() -> None:
            said.append("end")

        loops.start("a", turn("first"), end)  # type: ignore[arg-type]
        await soon()
        loops.start("a", turn("never"))  # type: ignore[arg-type]
        loops.drop("a")
        loops.start("a", turn("second"))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert said.count("end") == 1 and "never" not in said and said[-1] == "second"
        assert "first" not in said[said.index("end") :] and loops.troubles() == {}
        loops.drop("a")
        loops.drop("unknown")
        assert loops.states == {}
        await loops.stop()

    asyncio.run(play())


@pytest.mark.parametrize("swallow", [True, False], ids=["swallowed", "changed"])
def test_a_loop_ends_when_it_is_stopped_though_its_turn_hides_that(swallow: bool) -> None:
    """A client that is closed already turns a cancellation into an error of its own."""

    async def play() -> None:
        loops = Loops()

        async def turn() -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                if not swallow:
                    raise ValueError("closed") from None

        loops.start("a", turn)
        await soon()
        async with asyncio.timeout(2):
            await loops.stop()

    asyncio.run(play())
