"""The rules of the house: imports go down only, no cycles, no hidden imports, sizes, a sentence at the head of every file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("contracts", "shared", "services", "deploy")
FILES = sorted(p for f in FLOORS for p in (ROOT / f).rglob("*.py") if "node_modules" not in p.parts)
ORDER = ("main", "api", "handlers", "commands", "tables", "domain")
"""Inside a service each may import only what stands to its right."""


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


GRAPH = {module(p): imports(p) for p in FILES}


def forbidden(name: str, target: str) -> bool:
    a, b = name.split("."), target.split(".")
    if a[0] == "contracts":
        return b[0] in ("shared", "services", "deploy")
    if a[0] == "shared":
        return b[0] in ("services", "deploy") or (b[0] == "contracts" and len(b) > 1 and b[1] != "base")
    if a[0] == "services":
        return b[0] == "deploy" or (b[0] == "services" and len(a) > 1 and len(b) > 1 and a[1] != b[1])
    return False


def test_imports_go_down_only() -> None:
    assert [f"{n} -> {t}" for n, targets in GRAPH.items() for t in targets if forbidden(n, t)] == []


def test_inside_a_service_imports_go_one_way() -> None:
    wrong = []
    for name, targets in GRAPH.items():
        parts = name.split(".")
        if parts[0] != "services" or len(parts) != 3 or parts[2] not in ORDER:
            continue
        later = {f"services.{parts[1]}.{o}" for o in ORDER[: ORDER.index(parts[2])]}
        wrong += [f"{name} -> {t}" for t in targets & later]
    assert wrong == []


def test_no_cycles() -> None:
    graph = {n: {t for t in targets if t in GRAPH and t != n} for n, targets in GRAPH.items()}
    while leaves := [n for n, targets in graph.items() if not targets & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert graph == {}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_readable(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "opens with a sentence saying what it is for"
    assert text.count("\n") <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # A schema step is a list of columns; cutting it up would not make it easier to read.
            assert "migrations" in path.parts or (node.end_lineno or 0) - node.lineno <= 50, node.name
            hidden = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not hidden, f"{node.name} hides an import"


def test_domains_import_no_framework() -> None:
    heavy = ("fastapi", "sqlalchemy", "nats", "starlette")
    assert [n for n, targets in GRAPH.items() if n.endswith(".domain") and any(t.split(".")[0] in heavy for t in targets)] == []
