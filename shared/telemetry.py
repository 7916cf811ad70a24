"""Logs through an allow-list and metrics of one process; nothing that a caller sent gets into either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

ALLOWED = frozenset(
    {"event", "level", "timestamp", "node", "loop", "error", "failures", "status", "route", "seconds", "log", "count", "fields"}
)
"""Keys that may be logged; any other is dropped, so that no request's content slips in by a careless line."""


def only_allowed(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {k: v for k, v in entry.items() if k in ALLOWED}


def configure_logs(node: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            only_allowed,
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.contextvars.bind_contextvars(node=node)


Gauge = tuple[str, str, str, dict[str, float]]
"""(name, explanation, name of the label, value by label)."""


class Metrics:
    """The metrics of one app; `gauges` are asked when somebody reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sanji_requests_total", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram("sanji_request_seconds", "Time to answer by route", ["route"], registry=self.registry)
        self.sources: list[Callable[[], list[Gauge]]] = []
        self.registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for source in self.sources:
            for name, text, label, values in source():
                family = GaugeMetricFamily(name, text, labels=[label])
                for key, value in values.items():
                    family.add_metric([key], value)
                yield family
