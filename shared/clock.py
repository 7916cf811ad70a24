"""Instants as they are stored, and civil days in a node's zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def stamp(instant: datetime) -> str:
    """UTC with microseconds, always the same length: text order is time order on every database."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC")
    if instant.tzinfo is not UTC:
        instant = instant.astimezone(UTC)
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def unstamp(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def civil_day(instant: datetime, zone: ZoneInfo) -> str:
    return instant.astimezone(zone).date().isoformat()
