"""One step of the workflow while it is taken: what its decision may see, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from contracts.base import Fact
from services.case import domain
from services.case.effects import Clocks
from services.case.routing import Routing
from shared.auth import Caller
from shared.clock import civil_day
from shared.database import Tx

Decided = tuple[dict[str, Any], list[Fact]]
"""What changes in the row of the case, and the facts to state."""


@dataclass
class Act:
    """One step while it is taken: the case as it was, the row of the table, what was said, the clocks after the step."""

    tx: Tx
    around: Routing
    row: dict[str, Any]
    step: domain.Step
    at: datetime
    given: Mapping[str, Any]
    who: Caller
    clocks: Clocks
    about: dict[str, Any] = field(init=False)
    noted: dict[str, Any] = field(default_factory=dict)
    """What the timeline tells beside what was said."""

    def __post_init__(self) -> None:
        self.about = {"time": self.at, "day": civil_day(self.at, self.around.zone), "case": self.row["id"]}

    def hands(self, *names: str | None) -> list[str]:
        """Who had a hand in the work so far, and these."""
        return sorted({*(self.row["hands"] or ()), *(n for n in names if n)})
