"""Values that fit a JSON Schema of ours, for property tests, and ways to spoil one; refuses keywords that it does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
FREE = "Mr. Li, 5th floor, calls every day"
"""What must not fit anywhere in a fact."""


def values(node: Schema, whole: Schema) -> st.SearchStrategy[Any]:
    """Any value that fits `node`, a part of `whole`."""
    if "$ref" in node:
        return values(whole["$defs"][node["$ref"].removeprefix("#/$defs/")], whole)
    if "const" in node or "enum" in node:
        return st.sampled_from(node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        return st.one_of([values(n, whole) for n in node["anyOf"]])
    return _objects(node, whole) if node["type"] == "object" else _simple(node)


def _simple(node: Schema) -> st.SearchStrategy[Any]:
    match node["type"]:
        case "string" if node.get("format") == "date-time":
            return st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat().replace("+00:00", "Z"))
        case "string" if "pattern" in node:
            return st.from_regex(node["pattern"].removeprefix("^").removesuffix("$"), fullmatch=True)
        case "number":
            return st.floats(node["minimum"], node["maximum"]) | st.integers(int(node["minimum"]), int(node["maximum"]))
        case "integer":
            return st.integers(node["minimum"], node["maximum"])
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    raise NotImplementedError(f"no values are known for {node}")


def _objects(node: Schema, whole: Schema) -> st.SearchStrategy[dict[str, Any]]:
    parts = {name: values(inner, whole) for name, inner in node["properties"].items()}
    needed = {name: parts[name] for name in node["required"]}
    return st.fixed_dictionaries(needed, optional={k: v for k, v in parts.items() if k not in needed})


def longest(node: Schema, whole: Schema) -> Any:
    """A value that fits `node` with every optional field there and every identifier as long as may be."""
    if "$ref" in node:
        return longest(whole["$defs"][node["$ref"].removeprefix("#/$defs/")], whole)
    if "anyOf" in node:
        return longest(node["anyOf"][0], whole)
    if node.get("type") == "object":
        return {name: longest(inner, whole) for name, inner in node["properties"].items()}
    if "const" in node or "enum" in node:
        return max(node.get("enum", [node.get("const")]), key=lambda value: len(str(value)))
    if node["type"] == "string":
        candidates = ["2026-03-02T01:00:00.000001Z", "2026-03-02", *("9" * n for n in range(200))]
        return max((c for c in candidates if re.search(node["pattern"], c)), key=len)
    return True if node["type"] == "boolean" else node["maximum"]


def leaves(node: Schema, whole: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """(dotted path, schema) of everything in a fact that carries a value; an object that is not closed counts as one."""
    if "$ref" in node:
        yield from leaves(whole["$defs"][node["$ref"].removeprefix("#/$defs/")], whole, path)
    elif node.get("additionalProperties") is False:
        for name, inner in node["properties"].items():
            yield from leaves(inner, whole, f"{path}.{name}" if path else name)
    elif "anyOf" in node:
        for inner in node["anyOf"]:
            yield from leaves(inner, whole, path)
    elif node.get("type") != "null":
        yield path, node


def spoiled(event: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of `event`, each with one fault: a field more, a field less, a value of another type, a text, a nested object."""
    for path in _paths(event, ()):
        for what, wrong in (("text", FREE), ("number", 7), ("quoted", "1"), ("truth", "yes"), ("list", []), ("object", {"a": 1})):
            yield f"{'.'.join(path)} {what}", _put(event, path, wrong)
        yield f"{'.'.join(path)} absent", _put(event, path, None, drop=True)
    for path in ((), ("data",), *(p for p in _paths(event, ()) if isinstance(_get(event, p), dict))):
        for name in ("note", "time" if path else "partitionkey"):
            yield f"{'.'.join((*path, name))} added", _put(event, (*path, name), FREE)


def _paths(value: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*above, name)
            yield from _paths(inner, (*above, name))


def _get(value: Any, path: tuple[str, ...]) -> Any:
    return _get(value[path[0]], path[1:]) if path else value


def _put(event: dict[str, Any], path: tuple[str, ...], value: Any, drop: bool = False) -> dict[str, Any]:
    copy = deepcopy(event)
    holder = _get(copy, path[:-1])
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return copy
