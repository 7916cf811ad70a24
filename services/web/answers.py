"""What the web service answers, as its interface document shows it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.settings import Names


class Place(BaseModel):
    """A node and where its page is, as far as that is known."""

    code: str
    names: Names
    url: str | None


class NodeInfo(BaseModel):
    """What a page needs to know of its node before it asks for figures."""

    code: str
    names: Names
    path: list[Place] = Field(description="from the root to this node, itself included")
    children: list[Place] = Field(description="the nodes right below")
    zone: str
    demo: bool
    note: Names | None = Field(None, description="to be shown beside a map")
    source: str | None = Field(None, description="where the data of the pack come from")
