"""The published rates that generated cases follow: read from a file, checked, and asked."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import Invalid

PUBLISHED = Path(__file__).with_name("rates.toml")

Share = float
"""A part of 1."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Told(_Strict):
    """A figure with where it comes from and how many cases stand behind it."""

    source: str = Field(min_length=1)
    cases: int = Field(gt=0)


class Arrivals(_Told):
    hours: tuple[Share, ...] = Field(min_length=24, max_length=24)
    weekdays: tuple[Share, ...] = Field(min_length=7, max_length=7, description="from Monday")

    def weight(self, at: datetime) -> float:
        """How many times the average of a week is reported at this civil time."""
        return self.hours[at.hour] * 24 * self.weekdays[at.weekday()] * 7

    def peak(self) -> float:
        return max(self.hours) * 24 * max(self.weekdays) * 7


class Categories(_Told):
    shares: dict[str, Share]


class Refused(_Told):
    reason: Literal["not_found", "out_of_scope", "duplicate", "transferred", "other"]
    share: Share


class Closing(_Told):
    on_time: Share
    multiples: tuple[tuple[Share, float], ...] = Field(description="(share of the closed cases, multiple of the limit), rising")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if any(a[0] >= b[0] or a[1] > b[1] for a, b in zip(self.multiples, self.multiples[1:], strict=False)):
            raise ValueError("multiples must rise")
        if [self.multiples[i][0] for i in (0, -1)] != [0, 1] or (self.on_time, 1.0) not in self.multiples:
            raise ValueError("multiples must go from 0 to 1 and through on_time")
        return self

    def multiple(self, share: Share) -> float:
        """Time to close ÷ limit that `share` of the cases do not exceed."""
        index = max(1, bisect_left(self.multiples, (share, 0.0)))
        (low, before), (high, after) = self.multiples[index - 1 : index + 1]
        return before + (after - before) * (share - low) / (high - low)


class Open(_Told):
    after_limit: Share


class Steps(_Strict):
    """Minutes (least, most), and the share of handled cases that go back."""

    source: str
    filing: tuple[float, float]
    dispatch: tuple[float, float]
    checking: tuple[float, float]
    rework: Share


class Rates(_Strict):
    """What cases are like: when they come, of which category, what becomes of them and how long that takes."""

    arrivals: Arrivals
    categories: Categories
    refused: tuple[Refused, ...]
    closing: Closing
    open: Open
    steps: Steps

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        wholes = {"hours": self.arrivals.hours, "weekdays": self.arrivals.weekdays, "categories": self.categories.shares.values()}
        for name, shares in wholes.items():
            if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"the shares of {name} must add up to 1, not {sum(shares)}")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of rates. Raises Invalid naming file and field."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "whole file"
            raise Invalid(f"{path.name}, {field}: {first['msg']}", field=field) from None


@cache
def published() -> Rates:
    """The rates that come with the project."""
    return Rates.load(PUBLISHED)
