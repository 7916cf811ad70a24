"""The arithmetic of the figures, the names that must be there, and one figure measured at a tiny size."""

from __future__ import annotations

import orjson
import pytest

from deploy.generate import PREFIX
from tests.bench.__main__ import FIGURES
from tests.bench.catchup import truth
from tests.bench.client import Answer
from tests.bench.filings import measure
from tests.bench.latency import waits
from tests.bench.line import Figure, Run, line, percentile, rounded

CASES = ["lifecycle_10k", "lifecycle_100k", "lifecycle_1m", "search_1m", "burst"]


def test_every_name_of_the_issue_is_there() -> None:
    assert list(FIGURES) == ["filings", "fold", "latency_100", "latency_200", "catchup_10k", "memory_demo", *CASES]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, s) for s in (0.01, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2
    for wrong, share in (([], 0.5), ([1.0], 0), ([1.0], 1.1)):
        with pytest.raises(ValueError):
            percentile(wrong, share)


def test_four_digits() -> None:
    assert [rounded(v) for v in (123456.0, 0.00123456, 0.0)] == [123500.0, 0.001235, 0.0]


def test_a_line_holds_medians_and_the_ratio_of_the_medians() -> None:
    runs = [Run(10, 20, {"p50": 1, "odd": 1}), Run(30, 60, {"p50": 3}), Run(20, 100, {"p50": 2, "odd": 2})]
    content = orjson.loads(line("some", Figure("s", "lower", "3 things", "nothing", runs)))
    assert content == {
        "name": "some", "value": 20, "unit": "s", "baseline": 60, "ratio": 0.3333, "runs": 3, "size": "3 things",
        "better": "lower", "raw": "nothing", "p50": 2,
    }  # fmt: skip


def test_a_case_waits_for_the_first_answer_that_counts_it() -> None:
    answers = [Answer(0, done, 201, orjson.dumps({"id": name})) for name, done in (("b", 1.1), ("a", 1.0), ("c", 2.0))]
    polls = [(0.5, {}), (1.2, {"9": 11}), (1.5, {"9": 12, "8": 40}), (2.5, {"9": 14})]
    assert waits("9", answers, 10, polls) == pytest.approx([200, 400, 500])
    with pytest.raises(RuntimeError, match="503"):
        waits("9", [Answer(0, 1, 503, b"busy")], 10, polls)


def test_what_events_amount_to() -> None:
    told = [("a", "reported", {"category": "X"}), ("b", "reported", {"category": "Y"}), ("a", "filed", {}), ("a", "handled", {})]
    events = [{"id": f"{c}:{n}", "subject": c, "type": f"{PREFIX}{n}.v1", "data": d} for c, n, d in told]
    assert truth("9", events) == {("9", "X"): (1, 0, 1, 0), ("9", "Y"): (1, 0, 0, 0)}


@pytest.mark.timeout(90)
def test_filings_are_measured_and_none_is_lost() -> None:
    figure = measure(scale=0.001, runs=1)
    content = orjson.loads(line("filings", figure))
    assert {"name", "value", "unit", "baseline", "ratio", "runs", "size", "p50", "p99", "livez", "cpu"} <= content.keys()
    assert content["size"].startswith("128 filings")
    assert content["ratio"] == pytest.approx(content["value"] / content["baseline"], rel=0.01)
