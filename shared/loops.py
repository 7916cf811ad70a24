"""Background loops that never die silently: each is restarted with back-off, and readiness says which one fails and why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic

import structlog
from sqlalchemy.exc import DBAPIError

logger = structlog.get_logger()
Turn = Callable[[], Awaitable[object]]


@dataclass
class State:
    """What is known of one loop."""

    last_turn: float = 0.0
    failures: int = 0
    error: str = ""


_CURRENT: ContextVar[State] = ContextVar("loop")


def progressed() -> None:
    """Say in the middle of a long turn that it goes on; a turn that catches up with a day's facts is no turn that hangs."""
    if state := _CURRENT.get(None):
        state.last_turn = monotonic()


def _stopping() -> bool:
    """Whether somebody wants the current task to end; a cancellation out of what it waited for is another matter."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@dataclass
class Loops:
    """Runs named loops until `stop`. A loop is a coroutine function that does one turn and pauses as it needs."""

    patience: float = 30.0
    states: dict[str, State] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str, turn: Turn, end: Turn | None = None) -> None:
        """Start a loop unless one of this name runs; `end` is called once when it is stopped."""
        if name not in self._tasks:
            self.states[name] = State(monotonic())
            self._tasks[name] = asyncio.create_task(self._run(name, turn, end), name=name)

    def drop(self, name: str) -> None:
        """Stop one loop and forget it; one of the same name may be started at once."""
        self.states.pop(name, None)
        if task := self._tasks.pop(name, None):
            task.cancel()

    async def _run(self, name: str, turn: Turn, end: Turn | None) -> None:
        state = self.states[name]
        _CURRENT.set(state)
        try:
            # Asked each time, because what a turn waits for may swallow the cancellation or turn it into another error.
            while not _stopping():
                await self._once(name, state, turn)
        finally:
            if end:
                await end()

    async def _once(self, name: str, state: State, turn: Turn) -> None:
        try:
            await turn()
            state.last_turn, state.failures, state.error = monotonic(), 0, ""
        except (Exception, asyncio.CancelledError) as error:
            if _stopping():
                raise
            # A cancellation that nobody asked of this loop came out of something it waited for: a failure like any other.
            state.failures += 1
            # A database tells the row at fault in its own words, and what is in it belongs into no log.
            said = "" if isinstance(error, DBAPIError) else f": {error}"
            state.error = f"{type(error).__name__}{said}"[:200]
            logger.warning("loop_failed", loop=name, error=state.error, failures=state.failures)
            await asyncio.sleep(min(5.0, 0.1 * 2 ** min(state.failures, 6)))

    def troubles(self) -> dict[str, str]:
        """Loops that fail, hang or ended, with the reason; empty when all is well."""
        found = {}
        # A copy, because readiness is asked from another thread while nodes join and leave.
        for name, state in list(self.states.items()):
            task = self._tasks.get(name)
            if task is None:
                continue
            silent = monotonic() - state.last_turn
            if task.done():
                found[name] = "ended"
            elif state.failures >= 3:
                found[name] = state.error
            elif silent > self.patience:
                found[name] = f"no turn for {silent:.0f} s {state.error}".strip()
        return found

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
