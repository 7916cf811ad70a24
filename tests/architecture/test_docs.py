"""What the docs name exists: paths, make targets; and the guards of every route."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

import services.case.api
import services.evaluation.api
import services.grid.api
from shared.auth import Guard
from shared.web import health

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC = {
    "/api/case/v1/workflow", "/api/grid/v1/locate", "/api/grid/v1/outlines", "/api/evaluation/v1/figures",
    "/api/evaluation/v1/overview", "/api/evaluation/v1/links", "/api/evaluation/v1/live", "/livez", "/readyz", "/metrics",
}  # fmt: skip
"""The reviewed list of routes that anybody may call; it grows only on purpose."""


def routes() -> list[APIRoute]:
    routers = [services.case.api.router, services.grid.api.router, services.evaluation.api.router, health()]
    return [r for router in routers for r in router.routes if isinstance(r, APIRoute)]


def guards(route: APIRoute) -> list[Guard]:
    return [d.call for d in route.dependant.dependencies if isinstance(d.call, Guard)]


def test_every_route_has_one_guard() -> None:
    assert FastAPI and len(routes()) >= 15
    assert [r.path for r in routes() if len(guards(r)) != 1] == []


def test_the_public_ones_are_known_and_say_why() -> None:
    found = {r.path: g.reason for r in routes() for g in guards(r) if g.roles is None}
    assert set(found) == PUBLIC
    assert all(len(reason) > 10 for reason in found.values())


def test_paths_named_in_the_docs_exist() -> None:
    missing = []
    for page in PAGES:
        for name in re.findall(r"`((?:docs|deploy|shared|services|contracts|tests)/[\w./-]*)`", page.read_text()):
            if not (ROOT / name).exists():
                missing.append(f"{page.name}: {name}")
    assert missing == []


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {t for p in PAGES for t in re.findall(r"(?:`|    )make ([a-z0-9-]+)", p.read_text())}
    assert named and named <= targets
