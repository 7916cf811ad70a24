"""The contracts: files equal the code, bodies fit their schemas, published shapes stay, nothing free or private travels up."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, func, select

from contracts.base import REGISTRY, Fact
from contracts.case import CaseClosed, CaseReported
from deploy.document import GENERATED, PUBLISHED, generated, graph, hears, publish, write
from deploy.facts import differences, schema
from services.evaluation import handlers
from services.evaluation.tables import metadata as evaluation
from shared.database import Tx
from shared.database import metadata as machinery
from shared.log import entries, record
from tests.events import FREE, leaves, longest, spoiled, values

ROOT = Path(__file__).resolve().parents[2]
PRIVACY = ROOT / "contracts" / "PRIVACY.md"
KINDS = sorted(REGISTRY.values(), key=lambda kind: kind.type)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.type)
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Schema = dict[str, Any]


def stored(folder: Path, name: str) -> Schema:
    found: Schema = orjson.loads((folder / name).read_bytes())
    return found


def validator(kind: type[Fact]) -> Draft202012Validator:
    return Draft202012Validator(stored(GENERATED, f"facts/{kind.type}.json"), format_checker=Draft202012Validator.FORMAT_CHECKER)


def facts(kind: type[Fact]) -> st.SearchStrategy[Fact]:
    own = kind.model_json_schema()
    return values(own, own).map(kind.model_validate)


def event(kind: type[Fact], fact: Fact) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(fact.body("fact-1", "9901"))
    return found


# Files -------------------------------------------------------------------------------------------------------------------


def test_generated_files_equal_the_code() -> None:
    there = {str(p.relative_to(GENERATED)): p.read_bytes() for p in GENERATED.rglob("*") if p.is_file()}
    now = generated()
    changed = sorted(name for name in there.keys() | now.keys() if there.get(name) != now.get(name))
    assert changed == [], "run `make contracts`, read the difference, and commit it"


def test_writing_leaves_nothing_stale_and_says_what_changed(tmp_path: Path) -> None:
    assert write({"a.json": b"1", "b/c.json": b"2"}, tmp_path) == ["a.json", "b/c.json"]
    assert write({"a.json": b"1", "d.txt": b"3"}, tmp_path) == ["b/c.json", "d.txt"]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.json", "d.txt"]


# Facts and their schemas -----------------------------------------------------------------------------------------------------


@each
def test_schemas_are_schemas_and_named_by_the_facts(kind: type[Fact]) -> None:
    document = stored(GENERATED, f"facts/{kind.type}.json")
    Draft202012Validator.check_schema(document)
    assert document["$id"] == kind.fixed()["dataschema"]
    assert (GENERATED / document["$id"].removeprefix("urn:sanji:")).is_file()


@each
def test_every_body_fits_its_schema_and_is_read_back(kind: type[Fact]) -> None:
    check = validator(kind)

    @quick
    @given(facts(kind))
    def holds(fact: Fact) -> None:
        written = event(kind, fact)
        check.validate(written)
        assert kind.from_event(written) == fact

    holds()


@each
def test_every_event_that_fits_the_schema_can_be_read(kind: type[Fact]) -> None:
    """But for the subject, which a schema cannot tie to a field of the data."""
    document = stored(GENERATED, f"facts/{kind.type}.json")

    @quick
    @given(values(document, document))
    def holds(foreign: dict[str, Any]) -> None:
        kind.from_event(foreign | {"subject": foreign["data"][kind.about]})
        assume(foreign["subject"] != foreign["data"][kind.about])
        with pytest.raises(ValidationError):
            kind.from_event(foreign)

    holds()


@each
def test_what_the_schema_refuses_the_reader_refuses(kind: type[Fact]) -> None:
    check = validator(kind)
    seen: set[str] = set()

    @settings(max_examples=3, deadline=None, database=None)
    @given(facts(kind))
    def holds(fact: Fact) -> None:
        for what, bad in spoiled(event(kind, fact)):
            if check.is_valid(bad):
                continue
            seen.add(what)
            with pytest.raises((ValidationError, TypeError, KeyError)):
                kind.from_event(bad)
                pytest.fail(f"{what} was read")

    holds()
    assert {"note added", "data.note added", "data.time added", "dataschema text", "id absent", "time quoted"} <= seen


@each
def test_the_longest_values_fit_the_tables(kind: type[Fact], empty_engine: Engine) -> None:
    """PostgreSQL refuses what is longer than its column; a fact that no parent can store would stop its log for ever."""
    own, report = kind.model_json_schema(), CaseReported.model_json_schema()
    facts = [CaseReported.model_validate(longest(report, report))]
    facts += [] if kind is CaseReported else [kind.model_validate(longest(own, own))]
    evaluation.create_all(empty_engine)
    machinery.create_all(empty_engine)
    with empty_engine.begin() as connection:
        for n, fact in enumerate(facts):
            record(Tx(connection, "9" * 20, new_id=lambda n=n: f"{n:040d}"), fact)
        handlers.fold(connection, "9" * 20, facts)
        assert connection.execute(select(func.count()).select_from(entries)).scalar() == len(facts)


# Published shapes ------------------------------------------------------------------------------------------------------------


def test_every_fact_is_published_and_every_published_fact_is_still_read() -> None:
    assert {p.stem for p in PUBLISHED.glob("*.json")} == set(REGISTRY)


@each
def test_a_published_shape_never_changes(kind: type[Fact]) -> None:
    found = differences(stored(PUBLISHED, f"{kind.type}.json"), schema(kind))
    following = re.sub(r"\d+$", lambda m: str(int(m[0]) + 1), kind.type)
    lines = "\n".join(found)
    assert not found, f"{kind.type} was published and other nodes read it:\n{lines}\nmake a new class with the type {following}"


def test_publishing_writes_once(tmp_path: Path) -> None:
    assert publish(KINDS, tmp_path) == [f"{kind.type}.json" for kind in KINDS]
    (tmp_path / f"{KINDS[0].type}.json").write_text("as it was")
    (tmp_path / f"{KINDS[1].type}.json").unlink()
    assert publish(KINDS, tmp_path) == [f"{KINDS[1].type}.json"]
    assert (tmp_path / f"{KINDS[0].type}.json").read_text() == "as it was"


def data(document: Schema) -> Schema:
    found: Schema = document["properties"]["data"]
    return found


ALTERED: dict[str, tuple[Callable[[Schema], object], str]] = {
    "removed field": (lambda d: data(d)["properties"].pop("number"), "/properties/data/properties/number:"),
    "new optional field": (
        lambda d: data(d)["properties"].update(title={"type": "boolean"}), "/properties/data/properties/title:",
    ),
    "new attribute": (lambda d: d["properties"].update(examples={"const": "1"}), "/properties/examples:"),
    "narrower enum": (lambda d: data(d)["properties"]["channel"]["enum"].pop(), "/properties/data/properties/channel/enum:"),
    "wider enum": (lambda d: data(d)["properties"]["channel"]["enum"].append("x"), "/properties/data/properties/channel/enum:"),
    "changed type": (
        lambda d: d["$defs"]["Place"]["properties"]["lon"].update(type="string"),
        "/properties/data/properties/place/properties/lon/type:",
    ),
    "changed pattern": (
        lambda d: data(d)["properties"]["category"].update(pattern="^[A-Z]$"), "/properties/data/properties/category/pattern:",
    ),
    "new required": (lambda d: data(d)["required"].append("dataset"), "/properties/data/required:"),
    "no longer required": (
        lambda d: d["$defs"]["Place"]["required"].remove("lon"), "/properties/data/properties/place/required:",
    ),
    "changed limit": (
        lambda d: d["$defs"]["Place"]["properties"]["lat"].update(maximum=91),
        "/properties/data/properties/place/properties/lat/maximum:",
    ),
    "opened": (lambda d: data(d).update(additionalProperties=True), "/properties/data/additionalProperties:"),
    "number for truth": (lambda d: data(d).update(additionalProperties=0), "/properties/data/additionalProperties:"),
    "changed default": (
        lambda d: data(d)["properties"]["provenance"].update(default="imported"),
        "/properties/data/properties/provenance/default:",
    ),
    "changed constant": (lambda d: d["properties"]["specversion"].update(const="1.1"), "/properties/specversion/const:"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_shape_is_found_and_its_place_named(name: str) -> None:
    before = schema(CaseReported)
    after = deepcopy(before)
    alter, place = ALTERED[name]
    alter(after)
    for old, new in ((before, after), (after, before)):
        found = differences(old, new)
        assert len(found) == 1 and found[0].startswith(place), found


def test_words_parts_and_order_are_no_shape() -> None:
    before = schema(CaseReported)
    after = deepcopy(before)
    after |= {"title": "Another", "description": "in other words", "examples": [{}]}
    data(after)["properties"]["channel"] |= {"description": "by which way", "examples": ["public"]}
    data(after)["properties"]["channel"]["enum"].reverse()
    data(after)["required"].reverse()
    after["$defs"]["Spot"] = after["$defs"].pop("Place") | {"title": "Spot"}
    data(after)["properties"]["place"] = {"$ref": "#/$defs/Spot", "description": "where"}
    assert differences(before, after) == []


# Free text and privacy -------------------------------------------------------------------------------------------------------


def free(document: Schema) -> list[str]:
    """Paths that could carry a sentence."""
    found = []
    for path, leaf in leaves(document, document):
        closed = "const" in leaf or "enum" in leaf or leaf.get("type") in ("number", "integer", "boolean")
        pattern = leaf.get("pattern", "")
        anchored = pattern.startswith("^") and pattern.endswith("$")
        if not closed and not (anchored and not any(re.search(pattern, text) for text in (FREE, "two words", "王先生", "a@b"))):
            found.append(path)
    return found


@each
def test_no_fact_has_room_for_free_text(kind: type[Fact]) -> None:
    assert free(stored(GENERATED, f"facts/{kind.type}.json")) == []


def test_room_for_free_text_is_found() -> None:
    class Gossip(Fact):
        """Everything that a fact must not be."""

        type: ClassVar[str] = "cn.sanji.gossip.v1"
        stated_by: ClassVar[str] = "case"
        about: ClassVar[str] = "day"
        note: str
        more: dict[str, Any] = {}
        tags: list[str] = []
        loose: str | None = None

    assert free(schema(Gossip)) == ["data.note", "data.more", "data.tags", "data.loose"]


def notes() -> dict[tuple[str, str], str]:
    """(fact type or *, path): why it may travel, from the table in PRIVACY.md."""
    lines = [line.strip("|") for line in PRIVACY.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip(" `") for cell in line.split("|")] for line in lines]
    return {(kind, path): why for kind, path, why in rows[1:]}


def test_every_field_of_a_fact_has_a_note_why_it_may_travel() -> None:
    noted = notes()
    used: set[tuple[str, str]] = set()
    missing = []
    for kind in KINDS:
        document = schema(kind)
        for path, _ in leaves(document, document):
            fits = {key for key in ((kind.type, path), ("*", path)) if key in noted}
            used |= fits
            missing += [] if fits else [f"{kind.type} {path}"]
    assert missing == [], "say in contracts/PRIVACY.md why each may leave the county, or take it out"
    assert set(noted) - used == set(), "notes of fields that are not there"
    assert all(len(why) > 20 for why in noted.values())


# Who states and who hears ----------------------------------------------------------------------------------------------------


def test_facts_are_stated_by_the_service_that_they_name() -> None:
    """Stated means built: only the service that a fact names builds it, and it does."""
    names = {kind.__name__: kind for kind in KINDS}
    built: dict[str, set[str]] = {name: set() for name in names}
    for path in sorted((ROOT / "services").glob("*/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                built[node.func.id].add(path.parent.name)
    assert built == {name: {kind.stated_by} for name, kind in names.items()}


def state_of(connection: Connection) -> list[Any]:
    """All rows, without the moment at which this node learnt of them, which every fact moves."""
    rows = [row for table in evaluation.sorted_tables for row in connection.execute(table.select()).mappings()]
    return [{name: value for name, value in row.items() if name != "changed_at"} for row in rows]


AT, DAY = "2026-03-02T01:00:00Z", "2026-03-02"
SAMPLE: dict[str, Any] = {
    "number": "1", "category": "E0101", "edition": "1", "channel": "public", "due": AT, "until": AT, "began": AT,
    "reason": "other", "department": "lamps", "on_time": False, "opened": DAY, "task": "check", "origin": "handling",
    "into": "case-2", "score": 2, "state": "handled", "stage": "filing", "answered": True, "by": "visit", "how": "split",
    "seconds": 1, "to": "case-2", "result": "granted", "place": {"lon": 1.0, "lat": 1.0, "division": "9901"},
}  # fmt: skip
"""A value for each field, so that a case closed overdue becomes another one by any fact that means something there."""
OWN: dict[str, dict[str, Any]] = {
    "cn.sanji.case.amended.v1": {"category": "E0102"},
    "cn.sanji.case.returned.v1": {"to": "dispatch"},
    "cn.sanji.case.task-answered.v1": {"result": "not_pass"},
}
"""Where a field of the same name means something else, or has to differ from the report."""
UNHEARD = {"linked", "rated", "stage-ended", "supervised"}
"""Facts that no service hears yet; a reviewed list."""


def sample(kind: type[Fact], time: str) -> Fact:
    """A fact about the one case, with every field that it must have."""
    given = {"case": "case-1", "day": DAY, "time": time} | SAMPLE | OWN.get(kind.type, {})
    needed = {name for name, info in kind.model_fields.items() if info.is_required()}
    return kind.model_validate({name: value for name, value in given.items() if name in needed})


@each
def test_what_evaluation_says_it_hears_is_what_changes_something(kind: type[Fact], empty_engine: Engine) -> None:
    fact = sample(kind, "2026-03-02T02:00:00Z")
    evaluation.create_all(empty_engine)
    with empty_engine.begin() as connection:
        if kind is not CaseReported:
            handlers.fold(connection, "9901", [sample(CaseReported, AT), sample(CaseClosed, AT)])
        before = state_of(connection)
        handlers.fold(connection, "9901", [fact])
        assert (state_of(connection) != before) == (kind in hears()["evaluation"])


def test_the_graph_names_every_fact_and_who_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = graph().splitlines()
    assert [line.split()[0] for line in lines] == ["fact", *sorted(REGISTRY)]
    hearers = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    unheard = {f"cn.sanji.case.{name}.v1" for name in UNHEARD}
    assert hearers == {name: ["case", "nobody" if name in unheard else "evaluation"] for name in REGISTRY}
    monkeypatch.setattr(handlers, "HEARS", (CaseReported,))
    assert [line.split()[-1] for line in graph().splitlines() if "reported" not in line] == ["by", *["nobody"] * (len(KINDS) - 1)]
