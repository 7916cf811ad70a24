"""The base class of every fact and its CloudEvents 1.0 form on the wire."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

CODE = "[0-9A-Z]{2,20}"
IDENT = "[0-9A-Za-z._:-]{1,80}"
SHORT = "[0-9A-Za-z._:-]{1,40}"
INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
"""Patterns without anchors. Digits are written out: in Python and Rust `\\d` also means the digits of other scripts."""

Code = Annotated[str, StringConstraints(pattern=f"^{CODE}$")]
"""A division, category or cell code; lengths and editions are data."""

Ident = Annotated[str, StringConstraints(pattern=f"^{IDENT}$")]
"""An opaque identifier without spaces: it also stands in a bus line."""

ShortIdent = Annotated[str, StringConstraints(pattern=f"^{SHORT}$")]
"""An identifier of ours: of a fact or a case."""

Edition = Annotated[str, StringConstraints(pattern="^[0-9A-Za-z._:/-]{1,40}$")]
"""Which edition of a list is meant, as a code such as GB/T30428.2-2013; the words about it stand in the data pack."""

Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
"""A civil day in the zone of the node that states the fact."""

_INSTANT = re.compile(INSTANT)


def _written(value: object) -> object:
    """pydantic alone would also take a number, or a number in quotes, for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _INSTANT.fullmatch(value)):
        return value
    raise ValueError("an instant needs its offset from UTC, such as 2026-03-01T08:00:00+08:00")


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC")
    if not value.utcoffset():
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999 in UTC") from None


Instant = Annotated[
    datetime,
    Field(strict=False, json_schema_extra={"pattern": f"^{INSTANT}$"}),
    BeforeValidator(_written),
    AfterValidator(_as_utc),
]
"""A moment with offset, written as RFC 3339 says, kept in UTC."""

SCHEMAS = "urn:sanji:facts/"
"""Where schemas are named: absolute, as CloudEvents wants it; what follows `urn:sanji:` is the file under contracts/generated."""


class Fact(BaseModel):
    """Something that happened, in codes only: no free text, no person, no contact.

    `type` is the CloudEvents type with its version, `about` names the field that is the subject. A published version never
    changes its shape, not even by an optional field, because nodes of an older release refuse what they do not know: a new shape
    is a new class with the next version in its type.
    """

    # Strict, because a reader that takes "yes" for true believes what the published schema refuses.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    type: ClassVar[str]
    stated_by: ClassVar[str]
    about: ClassVar[str] = "case"

    time: Instant = Field(description="when it happened, UTC")
    day: Day = Field(description="civil day of `time` at the origin")

    @property
    def subject(self) -> str:
        return str(getattr(self, self.about))

    @classmethod
    @cache
    def fixed(cls) -> dict[str, str]:
        """The CloudEvents attributes that are the same in every fact of this type."""
        return {
            "specversion": "1.0",
            "type": cls.type,
            "dataschema": f"{SCHEMAS}{cls.type}.json",
            "datacontenttype": "application/json",
        }

    def body(self, fact_id: str, node: str) -> bytes:
        """The stored and forwarded bytes: a CloudEvent in structured form, keys sorted."""
        data = self.model_dump(mode="json", exclude_none=True)
        event = {"id": fact_id, "source": f"/{node}/{self.stated_by}", "time": data.pop("time"), "subject": self.subject}
        return orjson.dumps(event | self.fixed() | {"data": data}, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_event(cls, event: dict[str, Any]) -> Self:
        """Build from a parsed CloudEvent, which may hold nothing but what `body` writes. Raises pydantic.ValidationError.

        The envelope is closed like the data: whatever it let through would travel upward unread.
        """
        data, fixed = event["data"], cls.fixed()
        if event.keys() != ATTRIBUTES or not fixed.items() <= event.items():
            names = sorted(event.keys() ^ ATTRIBUTES) or sorted(k for k, v in fixed.items() if event[k] != v)
            raise cls._not(names[0], "is not what this type of fact has there", event.get(names[0]))
        if "time" in data:
            raise cls._not("data", "holds the time, which is an attribute", data["time"])
        fact = cls.model_validate({**data, "time": event["time"]})
        if event["subject"] != fact.subject:
            raise cls._not("subject", f"is not the {cls.about}", event["subject"])
        for name, form in cls._forms().items():
            if not (isinstance(event[name], str) and form.fullmatch(event[name])):
                raise cls._not(name, "does not have the form that it must have", event[name])
        return fact

    @classmethod
    @cache
    def _forms(cls) -> dict[str, re.Pattern[str]]:
        return {"id": re.compile(SHORT), "source": re.compile(f"/{CODE}/{cls.stated_by}")}

    @classmethod
    def _not(cls, name: str, why: str, value: object) -> ValidationError:
        error = PydanticCustomError("envelope", "{name} {why}", {"name": name, "why": why})
        return ValidationError.from_exception_data(cls.type, [{"type": error, "loc": (name,), "input": value}])


ATTRIBUTES = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype", "data"}
)  # fmt: skip
"""What the envelope of a fact consists of, no more and no less."""

F = TypeVar("F", bound=Fact)
REGISTRY: dict[str, type[Fact]] = {}


def published(cls: type[F]) -> type[F]:
    """Class decorator: enter a fact into the registry by its type."""
    if cls.type in REGISTRY:
        raise ValueError(f"{cls.type} is published twice")
    REGISTRY[cls.type] = cls
    return cls
