"""HTTP of the web service: what a page needs to know of its node before it asks for figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from services.web.answers import NodeInfo
from shared.auth import public
from shared.web import Runtime

router = APIRouter(prefix="/api/web/v1", tags=["web"])


@router.get("/node", dependencies=[public("names of units and of their parents are published data")], response_model=NodeInfo)
def node(request: Request) -> dict[str, Any]:
    """The node's code and names, the way from the root to it, the nodes right below, and where outlines come from."""
    runtime: Runtime = request.app.state.runtime
    here, about = runtime.node, runtime.extra["about"]
    children = [{"code": c.code, "names": c.names.model_dump(), "url": c.url} for c in here.children()]
    above = [a.model_dump(include={"code", "names", "url"}) for a in here.above]
    itself = {"code": here.code, "names": here.names.model_dump(), "url": None}
    return {
        "code": here.code, "names": here.names.model_dump(), "path": [*above, itself], "children": children,
        "zone": here.zone, "demo": here.demo, **about,
    }  # fmt: skip
