"""AsyncAPI 3.0 of the bus: what nodes publish, under which subjects it arrives further up, and what a parent may ask."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from contracts.base import CODE, IDENT, Fact
from contracts.case import CaseFiled, CaseHandled
from shared.chain import GENESIS, Entry, encode, link

VERSION = "1"
LOG = f"{CODE}/(%s)"
NUMBER = "[1-9][0-9]*"
CHAIN = "[0-9a-f]{64}"

BATCH = """\
A batch of one log. Lines are parted by one line feed (U+000A); there is none after the last.

First line: `<log> <closing>`. `<log>` is `<node>/<service>`; `<closing>` is the chain value after the last entry of the
batch, 64 hexadecimal digits in lower case.

Every other line is one sealed fact: `<epoch> <seq> <version> <subject> <body>`, parted by single spaces. `<epoch>` counts the
incarnations of the log and never falls; `<seq>` counts its entries from 1 without gap; `<version>` counts the facts of one
subject from 1; `<subject>` is the subject of the fact; `<body>` is the rest of the line, the fact as a CloudEvent in JSON
(see `#/components/schemas/fact`), byte for byte as its origin stored it. Numbers are decimal without leading zeros. There is
at least one.

The proof: leaf = SHA-256(0x00, body); chain = SHA-256(0x01, previous chain, epoch as 32 bits, seq as 64 bits, subject,
version as 32 bits, leaf), big-endian, where the previous chain of the first entry of a log is 32 zero bytes. A receiver knows
the chain at its own head, computes it over the new entries and applies the batch only if it arrives at `<closing>`. Entries
at or before the head are skipped, a gap before the first entry is fetched by `rpc.<node>.range`, and what does not prove
itself is set aside, never applied.
"""
OWN = """\
A node publishes the sealed facts of its services to its own stream, oldest first, until the broker confirms them. The stream
is `EV_<node>`, in the JetStream domain `<node>`, and takes the subjects `<node>.>`.
"""
BELOW = """\
The stream of a parent, `EV_<parent>`, sources the stream of each child and puts `<child>.` before every subject. So each hop
adds the code of the account that the message came from, which the sender cannot choose: facts of `<node>` stand two levels up
under `<child>.<node>.<node>.<service>`, where `<child>` is the child of the node that reads. `route` lists these codes
downward and ends with the code of the stating node itself; a reader compares it with the log that the batch names.
"""
RANGE = """\
Sealed entries of a log from a sequence on, out of the database of the node that is asked, which keeps the facts of every node
below it. Asked of the next node downward only. As many as fit one message; ask again from the last sequence on until the
answer is empty.
"""
HEADS = "How far the node that is asked knows each log, its own and those from below, with the chain value there."

Document = dict[str, Any]


def document(registry: Mapping[str, type[Fact]]) -> Document:
    """The AsyncAPI document; bodies refer to `facts/<type>.json` beside it."""
    services = sorted({kind.stated_by for kind in registry.values()})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sanji bus",
            "version": VERSION,
            "description": "How nodes stay in step over NATS. The bus is transport: the proof travels in the messages.",
        },
        "defaultContentType": "application/json",
        "servers": {"broker": _server()},
        "channels": _channels(services),
        "operations": _operations(),
        "components": {"messages": _messages(registry, services), "schemas": _schemas(registry, services)},
    }


def _server() -> Document:
    variables = {"port": {"default": "4222", "description": "as rendered from the topology"}}
    text = "The node's own broker, on the loopback interface only. It is joined to that of its parent as a leaf node."
    return {"host": "127.0.0.1:{port}", "protocol": "nats", "description": text, "variables": variables}


def _channels(services: list[str]) -> Document:
    node = {"description": "code of a node"}
    service = {"description": "service that states the facts", "enum": services}
    route = {"description": "codes from the reader's child down to the stating node, parted by dots", "examples": ["99.9901"]}

    def channel(address: str | None, description: str, parameters: Document, *messages: str) -> Document:
        used = {"messages": {name: _ref("messages", name) for name in messages}}
        return {"address": address, "description": description} | ({"parameters": parameters} if parameters else {}) | used

    inbox = "The inbox that the request names as its reply subject."
    return {
        "own": channel("{node}.{service}", OWN, {"node": node, "service": service}, "batch"),
        "below": channel("{route}.{node}.{service}", BELOW, {"route": route, "node": node, "service": service}, "batch"),
        "range": channel("rpc.{node}.range", RANGE, {"node": node}, "rangeRequest"),
        "rangeReply": channel(None, inbox, {}, "batch", "nothing"),
        "heads": channel("rpc.{node}.heads", HEADS, {"node": node}, "headsRequest"),
        "headsReply": channel(None, inbox, {}, "heads", "nothing"),
    }


def _operations() -> Document:
    def operation(action: str, name: str, summary: str, *messages: str, **more: Any) -> Document:
        used = [{"$ref": f"#/channels/{name}/messages/{m}"} for m in messages]
        return {"action": action, "channel": {"$ref": f"#/channels/{name}"}, "summary": summary, "messages": used, **more}

    def reply(name: str, *messages: str) -> Document:
        used = [{"$ref": f"#/channels/{name}/messages/{m}"} for m in messages]
        return {"channel": {"$ref": f"#/channels/{name}"}, "messages": used}

    # Copies and services of one node share its database, so whichever of them is free answers.
    group = {"nats": {"queue": "answer", "bindingVersion": "0.1.0"}}
    ranges, heads = reply("rangeReply", "batch", "nothing"), reply("headsReply", "heads", "nothing")
    return {
        "publish": operation("send", "own", "publish the own log", "batch"),
        "hearOwn": operation("receive", "own", "hear the own services", "batch"),
        "hearBelow": operation("receive", "below", "hear a service of a node below", "batch"),
        "askRange": operation("send", "range", "fetch what is missing", "rangeRequest", reply=ranges),
        "answerRange": operation("receive", "range", "answer the parent", "rangeRequest", reply=ranges, bindings=group),
        "askHeads": operation("send", "heads", "compare with a child", "headsRequest", reply=heads),
        "answerHeads": operation("receive", "heads", "answer the parent", "headsRequest", reply=heads, bindings=group),
    }


def _messages(registry: Mapping[str, type[Fact]], services: list[str]) -> Document:
    log = LOG % "|".join(services)
    unique = {
        "type": "string",
        "pattern": f"^{log}:{NUMBER}:{NUMBER}$",
        "description": "`<log>:<epoch>:<seq>` of the last entry; for two minutes the broker takes each only once",
    }
    headers = {"type": "object", "properties": {"Nats-Msg-Id": unique}}
    bodies = {
        name: {
            "name": name, "title": kind.__name__, "contentType": "application/cloudevents+json",
            "summary": "travels as the body of a line of a batch, never by itself", "payload": {"$ref": f"facts/{name}.json"},
        }
        for name, kind in sorted(registry.items())
    }  # fmt: skip
    return {
        "batch": {
            "name": "batch", "title": "Batch of sealed facts", "contentType": "text/plain; charset=utf-8", "headers": headers,
            "payload": _ref("schemas", "batch"), "examples": [{"name": "two", "payload": example()}],
        },
        "rangeRequest": {"name": "rangeRequest", "title": "Which entries", "payload": _ref("schemas", "rangeRequest")},
        "headsRequest": {"name": "headsRequest", "title": "No content", "payload": _ref("schemas", "nothing")},
        "heads": {"name": "heads", "title": "How far each log is known", "payload": _ref("schemas", "heads")},
        "nothing": {
            "name": "nothing", "title": "Nothing to be had", "contentType": "text/plain", "payload": _ref("schemas", "nothing"),
            "summary": "the answer where there are no such entries, and to a request that cannot be read",
        },
        **bodies,
    }  # fmt: skip


def _schemas(registry: Mapping[str, type[Fact]], services: list[str]) -> Document:
    log = LOG % "|".join(services)
    line = f"\\n{NUMBER} {NUMBER} {NUMBER} {IDENT} \\{{[^\\n]*\\}}"
    number = {"type": "integer", "minimum": 0}
    return {
        "batch": {"type": "string", "pattern": f"^{log} {CHAIN}({line})+$", "description": BATCH, "examples": [example()]},
        "fact": {"description": "The body of a line.", "oneOf": [{"$ref": f"facts/{name}.json"} for name in sorted(registry)]},
        "rangeRequest": {
            "type": "object", "required": ["log", "first"], "additionalProperties": False,
            "properties": {
                "log": {"type": "string", "pattern": f"^{log}$"},
                "first": {"type": "integer", "minimum": 1, "description": "first sequence that is wanted"},
            },
        },
        "heads": {
            "type": "object", "description": "by log",
            "propertyNames": {"pattern": f"^{log}$"},
            "additionalProperties": {
                "type": "object", "required": ["seq", "chain", "ahead", "age"], "additionalProperties": False,
                "properties": {
                    "seq": number | {"description": "last sequence that this node has itself"},
                    "chain": {"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": "after that sequence"},
                    "ahead": number | {"description": "furthest sequence that it has heard of from below"},
                    "age": {"type": "number", "minimum": 0, "description": "seconds since the origin last answered"},
                },
            },
        },
        "nothing": {"type": "string", "maxLength": 0},
    }  # fmt: skip


def _ref(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


def example() -> str:
    """The first two entries of a log that never was; they prove themselves."""
    at, about = datetime(2026, 3, 2, 1, tzinfo=UTC), {"day": "2026-03-02", "case": "case-1"}
    facts: list[Fact] = [CaseFiled(time=at, due=at.replace(day=3), **about), CaseHandled(time=at.replace(hour=9), **about)]
    chain, entries = GENESIS, []
    for n, fact in enumerate(facts, 1):
        entries.append(Entry(1, n, n, fact.subject, fact.body(f"fact-{n}", "9901")))
        chain = link(chain, entries[-1])
    return encode("9901/case", entries, chain).decode()
