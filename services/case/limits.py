"""Time limits 时限 in the field's five units: how they are written and said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

from shared.errors import Invalid

Unit = Literal["UH", "UD", "WH", "WD", "ND"]
WORDS: dict[Unit, tuple[str, str]] = {
    "UH": ("紧急工作时", "urgent hour"),
    "UD": ("紧急工作日", "urgent day"),
    "WH": ("工作时", "work hour"),
    "WD": ("工作日", "work day"),
    "ND": ("自然日", "natural day"),
}
WORKING: frozenset[Unit] = frozenset({"WH", "WD"})
"""Units that pass in working time only; the others run on at night and on holidays."""
HOURS: dict[Unit, int] = {"UH": 1, "UD": 24, "WH": 1, "WD": 8, "ND": 24}
LONGEST_HOURS = 24 * 366 * 10
LONGEST_WORK_HOURS = 40 * 52 * 10
"""Ten years, in real hours and in hours of work."""
_LIMIT = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,4})?)(UH|UD|WH|WD|ND)", re.ASCII)


@dataclass(frozen=True)
class Limit:
    """A time limit 时限 such as 2WD, kept to the second: 0.3333UH are 20 minutes.

    Raises Invalid for an unknown unit, more than four decimals, less than a second or more than ten years.
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in WORDS:
            raise Invalid(f"the units of a limit are {', '.join(WORDS)}", field="/limit")
        longest = LONGEST_WORK_HOURS if self.unit in WORKING else LONGEST_HOURS
        if not 0 < self.amount * HOURS[self.unit] <= longest or not self.span:
            raise Invalid("a limit is at least a second and at most ten years", field="/limit")
        if round(self.amount, 4) != self.amount:
            raise Invalid("a limit has at most four decimals", field="/limit")

    @classmethod
    def parse(cls, text: str) -> Limit:
        """From "2WD", "0.25UH". Raises Invalid."""
        found = _LIMIT.fullmatch(text)
        if not found:
            raise Invalid(f"a limit is a number and one of {', '.join(WORDS)}, such as 2WD", field="/limit")
        unit: Unit = found[2]  # type: ignore[assignment]
        return cls(float(found[1]), unit)

    def __str__(self) -> str:
        return f"{_number(self.amount)}{self.unit}"

    @cached_property
    def span(self) -> timedelta:
        """In the unit's own kind of time."""
        return timedelta(seconds=round(self.amount * HOURS[self.unit] * 3600))

    def words(self) -> dict[str, str]:
        """For people: {"zh": "2个工作日", "en": "2 work days"}; parts of an hour in minutes."""
        zh, en = WORDS[self.unit]
        minutes, seconds = divmod(self.span.seconds, 60)
        if HOURS[self.unit] == 1 and self.amount < 1 and not seconds:
            kind = "urgent" if self.unit == "UH" else "work time"
            return {"zh": f"{minutes}分钟（{zh}）", "en": f"{minutes} minute{'s' * (minutes != 1)} ({kind})"}
        return {"zh": f"{_number(self.amount)}个{zh}", "en": f"{_number(self.amount)} {en}{'s' * (self.amount != 1)}"}


def _number(amount: float) -> str:
    return str(int(amount)) if amount == int(amount) else str(amount)
