"""Background loops that never die silently: each is restarted with back-off, and readiness says which one fails and why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

import structlog

logger = structlog.get_logger()
Turn = Callable[[], Awaitable[object]]


@dataclass
class State:
    """What is known of one loop."""

    last_turn: float = 0.0
    failures: int = 0
    error: str = ""


@dataclass
class Loops:
    """Runs named loops until `stop`. A loop is a coroutine function that does one turn and pauses as it needs."""

    patience: float = 30.0
    states: dict[str, State] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, name: str, turn: Turn) -> None:
        if name not in self._tasks:
            self.states[name] = State(monotonic())
            self._tasks[name] = asyncio.create_task(self._run(name, turn), name=name)

    async def _run(self, name: str, turn: Turn) -> None:
        state = self.states[name]
        while True:
            try:
                await turn()
                state.last_turn, state.failures, state.error = monotonic(), 0, ""
            except asyncio.CancelledError:
                raise
            except Exception as error:
                state.failures += 1
                state.error = f"{type(error).__name__}: {error}"[:200]
                logger.warning("loop_failed", loop=name, error=state.error, failures=state.failures)
                await asyncio.sleep(min(5.0, 0.1 * 2 ** min(state.failures, 6)))

    def troubles(self) -> dict[str, str]:
        """Loops that fail, hang or ended, with the reason; empty when all is well."""
        found = {}
        for name, state in self.states.items():
            silent = monotonic() - state.last_turn
            if self._tasks[name].done():
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
