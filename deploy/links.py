"""OpenAPI links: which operations an answer leads on to, found by one rule from paths, parameters and answers themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
Found = tuple[str, str, Document]
LAST = re.compile(r"^(?P<collection>.*)/\{(?P<name>[^{}/]+)\}$")


def link(document: Document) -> None:
    """Write the links into the documented answers.

    What makes or changes one thing of a collection leads to all operations of that thing, what is kept beside a thing to all
    below it, a list to the reading of its first item, and an answer with a code that is shown once to all that want it.
    """
    operations = [(path, method, op) for path, methods in document["paths"].items() for method, op in methods.items()]
    for source in operations:
        for status, answer in source[2]["responses"].items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema")
            if status.startswith("2") and schema:
                links = dict(_to_things(document, source, schema, operations)) | dict(_below(source, operations))
                links |= dict(_by_code(document, schema, operations))
                links.pop(source[2]["operationId"], None)
                if links:
                    answer["links"] = links


def _to_things(document: Document, source: Found, schema: Document, operations: list[Found]) -> Iterator[tuple[str, Document]]:
    """Links to what can be done with the thing that the answer shows; its path is that of the collection and its id."""
    path, method, _ = source
    collection = m["collection"] if method == "put" and (m := LAST.match(path)) else path
    place, thing = _thing(document, schema)
    for target, verb, operation in operations:
        below = re.match(rf"{re.escape(collection)}/\{{([^{{}}/]+)\}}(?P<rest>/.*)?$", target)
        if not below or "{" in (below["rest"] or "") or (method == "get" and (verb != "get" or below["rest"] or not place)):
            continue
        posts = [made for made, how, _ in operations if how == "post" and made.startswith(f"{collection}/")]
        if any(target.startswith(f"{made}/") for made in posts):
            # There only once something has been put beside the thing.
            continue
        name = next((n for n in (below[1], "id", "code") if n in thing), None)
        if name is not None:
            outer = {f"path.{p}": f"$request.path.{p}" for p in re.findall(r"\{([^{}]+)\}", collection)}
            yield _link(operation, outer | {f"path.{below[1]}": f"$response.body#{place}/{name}"})


def _below(source: Found, operations: list[Found]) -> Iterator[tuple[str, Document]]:
    """Links from what puts something beside a thing, by a path that ends in a word after an id, to what is below that path."""
    path, method, _ = source
    if method == "post" and re.search(r"\}/[^{}/]+$", path):
        for target, _, operation in operations:
            if target.startswith(f"{path}/") and "{" not in target.removeprefix(path):
                yield _link(operation, {f"path.{p}": f"$request.path.{p}" for p in re.findall(r"\{([^{}]+)\}", path)})


def _by_code(document: Document, schema: Document, operations: list[Found]) -> Iterator[tuple[str, Document]]:
    """Links to whatever wants in a header, such as X-Tracking-Code, what the answer shows in a field, `tracking_code`."""
    place, thing = _thing(document, schema)
    for _, _, operation in operations:
        for parameter in operation.get("parameters", ()):
            field = parameter["name"].lower().removeprefix("x-").replace("-", "_")
            if parameter["in"] == "header" and parameter["required"] and field in thing:
                yield _link(operation, {f"header.{parameter['name']}": f"$response.body#{place}/{field}"})


def _link(operation: Document, parameters: dict[str, str]) -> tuple[str, Document]:
    return operation["operationId"], {"operationId": operation["operationId"], "parameters": parameters}


def _thing(document: Document, schema: Document) -> tuple[str, set[str]]:
    """Where in an answer its thing, or the first of them, stands, as a JSON pointer; and the fields of it."""
    schema = _resolved(document, schema)
    if schema.get("type") == "array":
        place, fields = _thing(document, schema["items"])
        return f"/0{place}", fields
    fields = schema.get("properties", {})
    items = _resolved(document, fields.get("items", {}))
    if items.get("type") == "array":
        place, inner = _thing(document, items)
        return f"/items{place}", inner
    return "", {*fields}


def _resolved(document: Document, schema: Document) -> Document:
    found: Any = schema
    while "$ref" in found:
        found = document["components"]["schemas"][found["$ref"].rpartition("/")[2]]
    return dict(found)
