"""Writes the contracts as files: schemas of facts, OpenAPI, AsyncAPI and who hears what; `make contracts` runs it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

import services
from contracts.base import REGISTRY, Fact
from deploy.asyncapi import document as bus
from deploy.facts import schema
from deploy.routers import ROUTERS, openapi

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
GENERATED, PUBLISHED = CONTRACTS / "generated", CONTRACTS / "published"


def hears() -> dict[str, tuple[type[Fact], ...]]:
    """By service what it hears, as it declares beside its fold."""
    folder = Path(services.__path__[0])
    names = sorted(path.parent.name for path in folder.glob("*/handlers.py"))
    return {name: importlib.import_module(f"services.{name}.handlers").HEARS for name in names}


def graph() -> str:
    """One line a fact: its type, who states it, who hears it."""
    heard = hears()
    rows = [("fact", "stated by", "heard by")]
    for name, kind in sorted(REGISTRY.items()):
        rows.append((name, kind.stated_by, ", ".join(s for s, kinds in heard.items() if kind in kinds) or "nobody"))
    widths = [max(len(row[n]) for row in rows) for n in range(2)]
    return "".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}\n" for a, b, c in rows)


def generated() -> dict[str, bytes]:
    """Every generated file by its path under contracts/generated."""
    files = {f"facts/{name}.json": _json(schema(kind)) for name, kind in REGISTRY.items()}
    files |= {f"openapi/{name}.json": _json(openapi(name)) for name in ROUTERS}
    return files | {
        "openapi/sanji.json": _json(openapi()),
        "asyncapi.json": _json(bus(REGISTRY)),
        "graph.txt": graph().encode(),
    }


def _json(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def write(files: dict[str, bytes], folder: Path) -> list[str]:
    """Make `folder` hold exactly `files`; answers the paths that changed."""
    there = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in there.keys() - files.keys():
        (folder / name).unlink()
    fresh = {name: content for name, content in files.items() if there.get(name) != content}
    _put(fresh, folder)
    return sorted(fresh.keys() | (there.keys() - files.keys()))


def publish(kinds: Iterable[type[Fact]], folder: Path) -> list[str]:
    """Keep the schema of each type that has none there yet; what is published is never written again."""
    fresh = {f"{k.type}.json": _json(schema(k)) for k in kinds if not (folder / f"{k.type}.json").exists()}
    _put(fresh, folder)
    return sorted(fresh)


def _put(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    for changed in write(generated(), GENERATED):
        print(f"contracts/generated/{changed}")
    for changed in publish(REGISTRY.values(), PUBLISHED):
        print(f"contracts/published/{changed} (from now on its shape is fixed)")
