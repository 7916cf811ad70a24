"""The evaluation service over real HTTP on both databases: figures, cases, the state of the links, live changes."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select

from services.evaluation.handlers import READER, fold
from services.evaluation.tables import cases
from shared.chain import encode
from shared.compare import Ahead, Known, _trouble
from shared.log import EMPTY, Head
from shared.reader import Gap, Reader
from tests import served
from tests.evaluation.lives import heard, sealed, told_by
from tests.evaluation.walks import ORIGINS
from tests.served import LEAF, MIDDLE, ROOT, Served, refused

API = "/api/evaluation/v1"
TOLD = {origin: told_by(origin, 25, seed=4) for origin in ORIGINS}


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    """The region, which has heard of all four counties."""
    heard(engine, TOLD)
    with served.node(tmp_path, engine, ROOT) as found:
        yield found


def ask(node: Served, path: str, query: str | dict[str, Any] = "", **headers: str) -> httpx.Response:
    return node.client.get(f"{API}/{path}", params=query, headers=node.as_("auditor") | headers)


def rows(node: Served, **query: Any) -> list[dict[str, Any]]:
    answer = ask(node, "cases", {"limit": 1000} | query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_figures_as_they_are_asked_for(node: Served) -> None:
    whole = ask(node, "figures", "by=").json()["items"]
    by_origin = ask(node, "figures").json()
    assert len(whole) == 1 and [r["origin"] for r in by_origin["items"]] == list(ORIGINS)
    assert sum(r["reported"] for r in by_origin["items"]) == whole[0]["reported"] == 100
    assert "÷" in by_origin["formula"]["zh"] and "÷" in by_origin["formula"]["en"]
    middle = ask(node, "figures", f"node={MIDDLE}").json()["items"]
    assert middle == [r for r in by_origin["items"] if r["origin"].startswith("6501")]
    areas = {r["area"]: r for r in ask(node, "figures", "by=area").json()["items"]}
    assert areas[ROOT]["reported"] == 100 and areas[LEAF]["reported"] == by_origin["items"][0]["reported"]
    days = ask(node, "figures", "by=day,category&first_day=2026-03-02&last_day=2026-03-03").json()["items"]
    assert {r["day"] for r in days} == {"2026-03-02", "2026-03-03"} and {r["open"] for r in days} == {None}
    refused(node.client.get(f"{API}/cases"), 401)
    assert node.client.get(f"{API}/figures").status_code == 200, "figures are public"


def test_figures_that_cannot_be_asked_for(node: Served) -> None:
    wrong = [
        "by=colour", "by=origin,colour", "by=origin,origin", "by=,", "by=Origin", "by=%00", "category=e0101", "category=",
        "node=6501", "node=", "node=650104", "first_day=2026-02-30", "first_day=", "last_day=yesterday",
        "last_day=2026-03-01T00:00:00Z", "bye=origin",
    ]  # fmt: skip
    for query in wrong:
        refused(ask(node, "figures", query), 422, f"/{query.partition('=')[0]}")
    for query in ("last_days=0", "last_days=3661", "last_days=x", "days=3"):
        refused(ask(node, "overview", query), 422, f"/{query.partition('=')[0]}")


def test_what_has_not_changed_is_not_sent_again(node: Served) -> None:
    for path in ("figures", "cases"):
        first = ask(node, path)
        again = ask(node, path, **{"if-none-match": first.headers["etag"]})
        if again.status_code == 200 and path == "figures":
            # The minute of the answer is part of it, and has just changed.
            first, again = again, ask(node, path, **{"if-none-match": again.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == first.headers["etag"]
        assert ask(node, path, **{"if-none-match": 'W/"other"'}).status_code == 200
    assert ask(node, "cases", **{"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_cases_of_the_whole_subtree_by_every_filter(node: Served) -> None:
    found = rows(node)
    with node.runtime.engine.begin() as c:
        kept = {r["id"]: r for r in c.execute(select(cases)).mappings()}
    assert len(found) == 100 == len(kept) and all(r[k] == kept[r["id"]][k] for r in found for k in r)
    assert not {"seconds", "open", "counted", "text"} & found[0].keys()
    for name in ("state", "category"):
        for value in {r[name] for r in found}:
            assert rows(node, **{name: value}) == [r for r in found if r[name] == value] != []
    for area in ("650102990001", "65010299", "650102990", "650102", "650100", "650000"):
        inside = [r for r in found if r["division"].startswith(area.removesuffix("0000").removesuffix("00"))]
        assert rows(node, area=area) == (inside if area != "65010299" else []), area
    times = sorted(r["reported_at"] for r in found)
    first, last = times[20], times[60]
    assert rows(node, reported_from=first, reported_to=last) == [r for r in found if first <= r["reported_at"] < last] != []
    assert rows(node, changed_since=found[-1]["changed_at"]) == [r for r in found if r["changed_at"] >= found[-1]["changed_at"]]
    assert rows(node, bbox="87.6,43.7,87.6,43.7") == found and rows(node, bbox="0,0,1,1") == []
    wrong = ("state=opne", "state=", "category=e1", "bbox=1", "cursor=x", "limit=0", "format=xml", "colour=red")
    for query in (*wrong, f"area={'6' * 21}"):
        refused(ask(node, "cases", query), 422, f"/{query.partition('=')[0]}")


def test_pages_and_formats(node: Served) -> None:
    found, paged, query = rows(node), list[dict[str, Any]](), dict[str, Any](limit=9)
    while "cursor" not in query or query["cursor"]:
        answer = ask(node, "cases", query).json()
        paged += answer["items"]
        query["cursor"] = answer["next"]
    assert paged == found
    geo = ask(node, "cases", "format=geojson&limit=3").json()
    assert [f["id"] for f in geo["features"]] == [r["id"] for r in found[:3]] and geo["next"]
    table = ask(node, "cases", "format=csv&limit=1000")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(table.text)))
    assert [r["id"] for r in read] == [r["id"] for r in found] and set(read[0]) == set(found[0])


# Links -------------------------------------------------------------------------------------------------------------------------


def links(node: Served) -> dict[str, dict[str, Any]]:
    return {row["code"]: row for row in node.client.get(f"{API}/links").json()["links"]}


def test_a_link_is_as_good_as_the_worst_that_is_true(node: Served) -> None:
    log, known = "650102/case", len(TOLD["650102"])
    fresh = links(node)
    assert set(fresh) == {MIDDLE, "654000", *ORIGINS}
    assert {row["state"] for row in fresh.values()} == {"silent"}, "nobody has answered yet"
    assert fresh["650102"]["verified_seq"] == known and fresh["650102"]["heard_at"] and fresh[MIDDLE]["verified_seq"] == 0
    expected = [
        (Ahead(known, monotonic()), "ok", 0), (Ahead(known + 7, monotonic(), monotonic() - 3), "lagging", 7),
        (Ahead(known - 1, monotonic()), "ok", 0), (Ahead(known + 7, monotonic() - 11, monotonic() - 30), "silent", 7),
        (Ahead(known, monotonic(), None, "fork"), "fork", 0), (Ahead(known - 2, monotonic() - 60, None, "behind"), "behind", 0),
    ]  # fmt: skip
    for ahead, state, lag in expected:
        node.runtime.bus.comparison.ahead[log] = ahead
        row = links(node)["650102"]
        assert (row["state"], row["lag_events"], row["log"]) == (state, lag, log)
        assert (row["lag_seconds"] > 0) == (state in ("silent", "lagging"))
    assert {row["state"] for code, row in links(node).items() if code != "650102"} == {"silent"}, "and no other with it"


def test_a_link_with_wrong_facts(node: Served) -> None:
    """It shows while something is missing because of them, and no longer once the true ones came."""
    log, known = "650102/case", len(TOLD["650102"])
    more = [fact.model_copy(update={"case": f"x{fact.case}"}) for fact in TOLD["650102"]]
    entries, chains = sealed("650102", [*TOLD["650102"], *more])
    reader = Reader(READER, node.runtime.engine, fold)
    node.runtime.bus.comparison.ahead[log] = Ahead(known + 3, monotonic(), monotonic())
    assert links(node)["650102"]["state"] == "lagging"
    assert isinstance(reader.take("650102", "case", encode(log, entries[known + 1 : known + 3], chains[known + 2])), Gap)
    assert links(node)["650102"]["state"] == "lagging", "a gap is no fault"
    forged = [e._replace(body=e.body.replace(b"E0", b"P0")) for e in entries[known : known + 3]]
    for _ in range(2):
        reader.take("650102", "case", encode(log, forged, b"\0" * 32))
    row = links(node)["650102"]
    assert (row["state"], row["quarantine"], row["verified_seq"], row["lag_events"]) == ("quarantine", 1, known, 3)
    reader.take("650102", "case", encode(log, entries[known : known + 3], chains[known + 2]))
    row = links(node)["650102"]
    assert (row["state"], row["quarantine"], row["verified_seq"]) == ("ok", 1, known + 3)


def test_what_does_not_fit() -> None:
    """A child that knows less of its own log than we heard, or another history, was restored or copied."""
    ours, chain = Head(1, 9, b"a" * 32), (b"a" * 32).hex()
    assert _trouble(ours, Known(9, chain), own=True) == _trouble(ours, Known(12, "b" * 64), own=True) == ""
    assert _trouble(ours, Known(8, chain), own=True) == "behind" and _trouble(ours, Known(8, chain), own=False) == ""
    assert _trouble(ours, Known(9, "b" * 64), own=True) == _trouble(ours, Known(9, "b" * 64), own=False) == "fork"
    assert _trouble(EMPTY, Known(), own=True) == "" and _trouble(ours, Known(), own=True) == "behind"


def test_changes_are_told_at_once_and_only_when_there_are_any(node: Served) -> None:
    changes: list[float] = []

    def change() -> None:
        time.sleep(0.7)
        changes.append(monotonic())
        node.runtime.extra["changes"] += 1

    threading.Thread(target=change).start()
    with node.client.stream("GET", f"{API}/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream") and answer.headers["cache-control"] == "no-store"
        told: list[str] = []
        for line in answer.iter_lines():
            told += [line] if line.startswith("data:") else []
            if len(told) == 2:
                break
        assert told == ['data: {"seq":0}', 'data: {"seq":1}'] and monotonic() - changes[0] < 1.5


def test_a_node_that_leaves_ends_its_streams(node: Served) -> None:
    with node.client.stream("GET", f"{API}/live") as answer:
        lines = answer.iter_lines()
        next(lines)
        node.runtime.leaving = lambda: True
        begun = monotonic()
        list(lines)
    assert monotonic() - begun < 2
