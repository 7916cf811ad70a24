"""JSON Schema of each fact as it travels, a whole CloudEvent, and the comparison of two such schemas by shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from contracts.base import ATTRIBUTES, CODE, SHORT, Fact

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANNOTATIONS = frozenset({"title", "description", "examples"})
NAMED = frozenset({"properties", "patternProperties", "$defs"})
"""Keywords under which keys are names of fields, so that a field called `title` is no annotation."""

Schema = dict[str, Any]


class _Untitled(GenerateJsonSchema):
    """Without titles of fields, which only repeat the name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema(kind: type[Fact]) -> Schema:
    """The CloudEvent that `kind.body` writes and `kind.from_event` reads; nothing beside it is allowed."""
    data = kind.model_json_schema(schema_generator=_Untitled)
    title, description, parts = data.pop("title"), data.pop("description"), data.pop("$defs", {})
    time = data["properties"].pop("time")
    data["required"].remove("time")
    fixed = {name: {"const": value} for name, value in kind.fixed().items()}
    free = {
        "id": _text(SHORT, "unique among all facts of the federation"),
        "source": _text(f"/{CODE}/{kind.stated_by}", "the node that states the fact and its service"),
        "subject": data["properties"][kind.about] | {"description": f"the {kind.about}"},
        "time": time,
        "data": data,
    }
    return {
        "$schema": DIALECT, "$id": fixed["dataschema"]["const"], "title": title, "description": description,
        "type": "object", "additionalProperties": False, "required": sorted(ATTRIBUTES), "properties": fixed | free,
        "$defs": parts,
    }  # fmt: skip


def _text(pattern: str, description: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$", "description": description}


def plain(whole: Schema) -> Schema:
    """The shape alone: no annotations, parts put in where they are referred to, sets in one order."""
    parts: Schema = whole.get("$defs", {})

    def walk(node: Any, named: bool = False) -> Any:
        if isinstance(node, list):
            return [walk(n) for n in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node and not named:
            part = parts[node["$ref"].removeprefix("#/$defs/")]
            return walk(part | {k: v for k, v in node.items() if k != "$ref"})
        kept = {k: v for k, v in node.items() if named or (k not in ANNOTATIONS and k != "$defs")}
        found = {k: walk(v, k in NAMED and not named) for k, v in kept.items()}
        if not named:
            found |= {k: sorted(found[k], key=json.dumps) for k in ("required", "enum") if k in found}
        return found

    shape: Schema = walk(whole)
    return shape


def differences(published: Schema, current: Schema) -> list[str]:
    """Where the shapes differ: a JSON pointer, what was published and what the code has now, one line each."""
    return list(_differ(plain(published), plain(current), ""))


def _differ(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            where = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in new:
                yield f"{where}: {json.dumps(old[key])} was published, the code lacks it"
            elif key not in old:
                yield f"{where}: {json.dumps(new[key])} was not published, the code has it"
            else:
                yield from _differ(old[key], new[key], where)
    # In JSON true is not 1, and 1 is 1.0; in Python both are equal.
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield f"{path}: {json.dumps(old)} was published, the code has {json.dumps(new)}"
