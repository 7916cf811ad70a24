"""What the push API answers and takes, as its interface document shows it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.case.push import SHAPES, Event


class Outcome(BaseModel):
    """What became of one pushed event; a refused one says which field and why."""

    model_config = ConfigDict(extra="forbid")
    id: Any = Field(description="as it was sent, if it was")
    outcome: Literal["accepted", "duplicate", "refused"]
    case: str | None = Field(None, description="our id of the case")
    field: str | None = Field(None, description="JSON pointer into the event")
    reason: str | None = None


class Pushed(BaseModel):
    """What became of a push, in the order of its events."""

    accepted: int
    duplicate: int
    refused: int
    items: list[Outcome]


class Waiting(BaseModel):
    """A refused event that waits in the quarantine."""

    id: str
    source: str
    event_id: str
    event: Any
    field: str | None
    reason: str
    received_at: str
    replayed_at: str | None


def _event(kind: str) -> dict[str, Any]:
    """The schema of one type of event: the envelope with its own data."""
    shape, _ = SHAPES[kind]
    whole = Event.model_json_schema()
    data = shape.model_json_schema()
    properties = whole["properties"] | {"type": {"const": kind}, "data": data}
    properties.pop("data_base64")
    return {"type": "object", "title": kind, "required": whole["required"], "properties": properties}


EXAMPLE: dict[str, Any] = {
    "specversion": "1.0", "id": "A17:reported", "source": "urn:my:platform", "subject": "A17",
    "type": "cn.sanji.platform.case.reported.v1", "time": "2026-03-02T09:00:00+08:00",
    "data": {"category": "E0101", "lon": 87.62, "lat": 43.72},
}  # fmt: skip
ONE = {"oneOf": [_event(kind) for kind in SHAPES]}
MANY = {"type": "array", "items": ONE, "minItems": 1}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": ONE, "example": EXAMPLE},
            "application/cloudevents-batch+json": {"schema": MANY, "example": [EXAMPLE]},
            "application/x-ndjson": {"schema": {"type": "string", "description": "one event a line"}},
            "application/json": {"schema": {"type": "object", "description": "the data alone; attributes as ce- headers"}},
        },
    }
}
"""The four forms of a push, for the interface document: the route reads its body by itself."""
