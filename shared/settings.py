"""What a process knows about its node: one file, rendered from the topology."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Names(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    zh: str
    en: str


class Below(BaseModel):
    """A node below this one; `route` lists the codes from our child down to it, itself included."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str
    parent: str
    names: Names
    zone: str
    route: tuple[str, ...]
    url: str | None = Field(None, description="its own page, where it is known")


class Above(BaseModel):
    """A node on the way from the root to this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str
    names: Names
    url: str | None = None


class Broker(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str
    user: str
    password: str
    monitor: str = Field(description="URL of the broker's monitoring port, loopback only")


class Limits(BaseModel):
    """How much one caller may ask of a process, and how long a body may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    named: str = Field(default="120000/minute", description="requests with one credential")
    nameless: str = Field(default="3000/minute", description="requests without credential from one address")
    body_seconds: float = 30


class Retention(BaseModel):
    """How long what is known of reporters is kept, and where the keys are without which it cannot be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    days: int = Field(default=90, ge=1, le=3650, description="days after a case's end: call-back and objections included")
    keys: Path | None = Field(default=None, description="file of the keys; keys.db among the secrets where none is named")
    vacuum_bytes: int = Field(default=1 << 29, description="a larger SQLite database is not rewritten by itself after erasures")


class Bucket(BaseModel):
    """A bucket of an S3-compatible store; its access key and secret key stand in a file among the node's secrets, a line each."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    endpoint: str = Field(pattern=r"^https?://[0-9A-Za-z.:-]+$")
    bucket: str = Field(pattern=r"^[0-9a-z][0-9a-z.-]{2,62}$")
    region: str = "us-east-1"
    key: str = Field(default="objects", pattern=r"^[0-9A-Za-z_-]+$", description="name of that file")


class Mail(BaseModel):
    """The mail server that takes what the node sends to its own staff."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    sender: str = Field(pattern=r"^[!-?A-~]+@[0-9A-Za-z.-]+$", description="the address that mails come from")
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_file: str = Field(default="mail", pattern=r"^[0-9A-Za-z_-]+$", description="file among the secrets")

    @model_validator(mode="after")
    def _sealed(self) -> Mail:
        if self.user and self.tls == "none":
            raise ValueError("a password is not sent without TLS")
        return self


class Outgoing(BaseModel):
    """What the node may call outside, and for how long it tries."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    networks: tuple[str, ...] = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="networks inside that webhooks may reach, plain http included; everything else only outside and over https",
    )
    patience_days: float = Field(default=3, gt=0, le=30, description="after so long without success it is given up")

    @field_validator("networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value


class Node(BaseModel):
    """One administrative unit as its processes see it. Nothing here says on which tier it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str
    names: Names
    zone: str
    calendar: str
    path: tuple[str, ...] = Field(description="codes from the root to this node, itself included")
    above: tuple[Above, ...] = Field((), description="the nodes of `path` before this one, as pages link to them")
    subtree: tuple[Below, ...] = ()
    database_url: str
    broker: Broker
    host: str = "127.0.0.1"
    port: int
    ports: dict[str, int] = Field(default={}, description="port of each service when each runs by itself")
    pack: Path
    secrets: Path
    objects: Bucket | Path | None = Field(None, description="where photos lie; a folder beside the secrets where nothing is said")
    demo: bool = False
    limits: Limits = Limits()
    retention: Retention = Retention()
    mail: Mail | None = None
    outgoing: Outgoing = Outgoing()

    @property
    def keys(self) -> Path:
        """Beside the other secrets, so that a backup of the database does not hold it."""
        return self.retention.keys or self.secrets / "keys.db"

    @property
    def audit_head(self) -> Path:
        """Where the head of the audit log is written down, apart from the log."""
        return self.secrets / "audit.head"

    @property
    def tz(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def log(self, service: str) -> str:
        return f"{self.code}/{service}"

    def routes(self) -> dict[str, tuple[str, ...]]:
        """Every origin whose facts are heard here, with the route to it; the node itself has the empty route."""
        return {self.code: ()} | {b.code: b.route for b in self.subtree}

    def children(self) -> list[Below]:
        return [b for b in self.subtree if b.parent == self.code]


@dataclass
class Watch:
    """Looks every second whether the settings file changed, and then hands the new settings on."""

    path: Path
    changed: Callable[[Node], None]
    seen: float = 0.0

    def __post_init__(self) -> None:
        self.seen = self.path.stat().st_mtime

    async def turn(self) -> None:
        written = self.path.stat().st_mtime
        if written != self.seen:
            self.changed(load(self.path))
            self.seen = written
        await asyncio.sleep(1)


def load(path: Path) -> Node:
    """Read a node file. Raises pydantic.ValidationError, OSError."""
    return Node.model_validate(orjson.loads(path.read_bytes()))
