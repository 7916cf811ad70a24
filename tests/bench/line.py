"""The line of a figure: medians over its runs, percentiles, and how the value stands to its raw baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import orjson


@dataclass(frozen=True)
class Run:
    """One measurement and its baseline, both in the figure's unit; `more` holds further numbers of the same run."""

    value: float
    baseline: float
    more: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """All runs of one figure. `size` says how much was really measured, `raw` what the baseline is."""

    unit: str
    better: Literal["higher", "lower"]
    size: str
    raw: str
    runs: Sequence[Run]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` (0 to 1) of them do not exceed. Raises ValueError for none."""
    if not values or not 0 < share <= 1:
        raise ValueError("a percentile needs values and a share above 0 and at most 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def rounded(value: float) -> float:
    """Four significant digits: more would claim a precision that no run has."""
    return float(f"{value:.4g}")


def line(name: str, figure: Figure) -> bytes:
    """The JSON line: `ratio` is value ÷ baseline, and `better` says whether a high or a low one is wanted."""
    value, baseline = (median(getattr(r, k) for r in figure.runs) for k in ("value", "baseline"))
    content: dict[str, Any] = {
        "name": name, "value": rounded(value), "unit": figure.unit, "baseline": rounded(baseline),
        "ratio": rounded(value / baseline), "runs": len(figure.runs), "size": figure.size, "better": figure.better,
        "raw": figure.raw,
    }  # fmt: skip
    keys = [k for k in figure.runs[0].more if all(k in r.more for r in figure.runs)]
    return orjson.dumps(content | {k: rounded(median(r.more[k] for r in figure.runs)) for k in keys})
