"""The base class of every fact and its CloudEvents 1.0 form on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Code = Annotated[str, StringConstraints(pattern=r"^[0-9A-Z]{2,20}$")]
"""A division, category or cell code; lengths and editions are data."""

Ident = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z._:-]{1,80}$")]
"""An opaque identifier without spaces: it also stands in a bus line."""

Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
"""A civil day in the zone of the node that states the fact."""


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_as_utc)]
"""A moment with offset, kept in UTC."""


class Fact(BaseModel):
    """Something that happened, in codes only: no free text, no person, no contact.

    `type` is the CloudEvents type with its version, `about` names the field that is the subject. A published version is never
    changed incompatibly: a new one gets a new class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: ClassVar[str]
    stated_by: ClassVar[str]
    about: ClassVar[str] = "case"

    time: Instant = Field(description="when it happened, UTC")
    day: Day = Field(description="civil day of `time` at the origin")

    @property
    def subject(self) -> str:
        return str(getattr(self, self.about))

    def body(self, fact_id: str, node: str) -> bytes:
        """The stored and forwarded bytes: a CloudEvent in structured form, keys sorted."""
        data = self.model_dump(mode="json", exclude={"time"}, exclude_none=True)
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": fact_id,
                "source": f"/{node}/{self.stated_by}",
                "type": self.type,
                "time": self.model_dump(mode="json", include={"time"})["time"],
                "subject": self.subject,
                "dataschema": f"{self.type}.json",
                "datacontenttype": "application/json",
                "data": data,
            },
            option=orjson.OPT_SORT_KEYS,
        )

    @classmethod
    def from_event(cls, event: dict[str, Any]) -> Self:
        """Build from a parsed CloudEvent. Raises pydantic.ValidationError."""
        return cls.model_validate({**event["data"], "time": event["time"]})


F = TypeVar("F", bound=Fact)
REGISTRY: dict[str, type[Fact]] = {}


def published(cls: type[F]) -> type[F]:
    """Class decorator: enter a fact into the registry by its type."""
    if cls.type in REGISTRY:
        raise ValueError(f"{cls.type} is published twice")
    REGISTRY[cls.type] = cls
    return cls
