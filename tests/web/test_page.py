"""The page in a real browser over fixed figures: both languages, light and dark, at a desk and on a small phone."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from playwright.sync_api import Browser as Running
from playwright.sync_api import Page, sync_playwright

from services.web.statics import DIST, Statics, accepted
from tests.web.browser import APP, FLAGS, ROOT, alone, find

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("page")]

AREAS = [("650102", "天山区", "Tianshan", 87.60), ("650103", "沙依巴克区", "Shayibak", 87.50),
         ("650104", "新市区", "Xinshi", 87.40)]  # fmt: skip
KEYS = ("reported", "refused", "filed", "closed", "closed_on_time", "reworked", "open", "overdue_open", "median_seconds")
SUM = dict(zip(KEYS, (12345, 45, 12300, 11000, 10230, 210, 1300, 162, 93784), strict=True)) | {"on_time_rate": 0.9166}
NONE = dict.fromkeys(KEYS, 0) | {"median_seconds": None, "on_time_rate": None}
FORMULA = {"zh": "按期结案率 = 按期结案数 ÷ (结案数 + 超期未结数)",
           "en": "on-time rate = closed on time ÷ (closed + overdue open)"}  # fmt: skip


def names(area: tuple[str, str, str, float]) -> dict[str, str]:
    return {"zh": area[1], "en": area[2]}


def square(x: float, y: float = 43.7) -> dict[str, Any]:
    ring = [[x, y], [x + 0.1, y], [x + 0.1, y + 0.1], [x, y + 0.1], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def node() -> dict[str, Any]:
    pages = ["/child/650102", None, "javascript:alert(1)"]
    return {
        "code": "650100", "names": {"zh": "乌鲁木齐市", "en": "Urumqi"}, "path": [{"code": "650000"}, {"code": "650100"}],
        "children": [{"code": a[0], "names": names(a), "url": url} for a, url in zip(AREAS, pages, strict=True)],
        "demo": True, "source": "drawn for this test",
        "note": {"zh": "示意图，不作划界依据", "en": "Illustrative; not a boundary"},
    }  # fmt: skip


def overview() -> dict[str, Any]:
    totals = [SUM, SUM | {"overdue_open": 7, "on_time_rate": 0.5, "median_seconds": 3600.5}, NONE]
    trend = [{"day": f"2026-03-{d:02}", "reported": 40 + d * 7 % 11, "filed": 38 + d * 5 % 9, "closed": 30 + d * 3 % 13,
              "closed_on_time": 25 + d * 3 % 11} for d in range(1, 31) if d != 9]  # fmt: skip
    return {
        "as_of": "2026-03-30T08:00:00.000000Z", "totals": SUM, "trend": trend, "on_time_formula": FORMULA,
        "children": [{"code": a[0], "names": names(a), "totals": t} for a, t in zip(AREAS, totals, strict=True)],
        "provenance": [{"provenance": "live", "reported": 45}, {"provenance": "generated", "reported": 12300}],
    }  # fmt: skip


def links() -> dict[str, Any]:
    states = [("ok", 0, 0.0, 0), ("lagging", 120, 75.5, 0), ("quarantine", 3, None, 2)]
    return {"links": [
        {"code": a[0], "names": names(a), "log": f"{a[0]}/case", "state": s, "lag_events": n, "lag_seconds": late,
         "verified_seq": 4321, "quarantine": held, "heard_at": "2026-03-30T07:59:58.000000Z" if held == 0 else None}
        for a, (s, n, late, held) in zip(AREAS, states, strict=True)
    ]}  # fmt: skip


def example(broken: dict[str, bool]) -> FastAPI:
    """The endpoints with fixed answers, in front of the real way of serving the page."""
    app = FastAPI()
    outlines = [{"type": "Feature", "properties": {"code": c, "name_zh": zh, "name_en": en}, "geometry": square(x)}
                for c, zh, en, x in AREAS]  # fmt: skip
    app.get("/api/web/v1/node")(node)
    app.get("/api/grid/v1/outlines")(lambda: {"type": "FeatureCollection", "features": outlines})
    app.get("/api/evaluation/v1/links")(links)

    @app.get("/api/evaluation/v1/overview")
    def figures(last_days: int) -> dict[str, Any]:
        if broken["overview"]:
            raise HTTPException(503, "the writer is busy")
        return overview()

    @app.get("/api/evaluation/v1/live")
    def live() -> StreamingResponse:
        return StreamingResponse(iter([b'retry: 200\nevent: changed\ndata: {"seq": 1}\n\n']), media_type="text/event-stream")

    app.mount("/", Statics())
    return app


@pytest.fixture(scope="module")
def broken() -> dict[str, bool]:
    return {"overview": False}


@pytest.fixture(scope="module")
def site(broken: dict[str, bool]) -> Iterator[str]:
    with alone("page"):
        if not (DIST / ".ok").exists():
            subprocess.run(["make", "page"], cwd=ROOT, check=True)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(example(broken), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def chromium(site: str) -> Iterator[Running]:
    found = find()
    with sync_playwright() as p:
        running = p.chromium.launch(executable_path=found.path, args=list(FLAGS), env={**os.environ, **found.env})
        yield running
        running.close()


@pytest.fixture
def page(chromium: Running) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector("[data-log]")
    page.wait_for_selector(".map canvas")
    return page


def figure(page: Page, key: str) -> str:
    return page.inner_text(f"[data-figure={key}] .value")


def test_both_languages(site: str, page: Page) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    opened(page, f"{site}/?lang=zh-CN")
    assert page.inner_text("h1") == "乌鲁木齐市"
    shown = [figure(page, key) for key in ("reported", "on_time_rate", "median_seconds")]
    assert shown == ["12,345", "91.7%", "1 天 2 小时"]
    assert "12,300" in page.inner_text("aside") and "演示" in page.inner_text("aside")
    assert page.inner_text('[data-log="650103/case"] .state').endswith("滞后")
    page.click("text=English")
    assert page.get_attribute("html", "lang") == "en" and page.url.endswith("lang=en")
    assert page.inner_text("h1") == "Urumqi" and figure(page, "median_seconds") == "1 d 2 h"
    assert page.inner_text('[data-log="650104/case"] .state').endswith("Quarantined")
    opened(page, site)
    assert page.inner_text("h1") == "Urumqi", "the choice is remembered"
    page.click(".tile summary")
    assert page.inner_text(".tile details p") == FORMULA["en"]
    assert faults == []


def test_table_sorts_and_leads_to_the_child(site: str, page: Page) -> None:
    opened(page, f"{site}/?lang=en")
    order = "() => [...document.querySelectorAll('[data-code]')].map(row => row.dataset.code)"
    assert page.evaluate(order) == ["650102", "650103", "650104"]
    page.click("thead button:has-text('On-time rate')")
    page.click("thead button:has-text('On-time rate')")
    assert page.evaluate(order) == ["650103", "650102", "650104"], "what is not known comes last"
    assert page.inner_text('[data-code="650104"] td:nth-last-child(1)') == "–"
    assert page.locator("[data-code] a").count() == 1, "no link without an address, none to a script"
    page.focus("[data-code] a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/child/650102?lang=en")


def test_an_error_is_told_and_can_be_tried_again(site: str, page: Page, broken: dict[str, bool]) -> None:
    broken["overview"] = True
    page.goto(f"{site}/?lang=en")
    assert "the writer is busy" in page.inner_text("[role=alert]")
    broken["overview"] = False
    page.click("[role=alert] button")
    page.wait_for_selector("[data-figure]")
    page.wait_for_selector("[role=alert]", state="detached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_accessible_and_never_wider_than_the_screen(site: str, page: Page, scheme: Any, width: int, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900 if width > 400 else 800})
    for lang in ("zh-CN", "en"):
        opened(page, f"{site}/?lang={lang}")
        page.evaluate((APP / "node_modules/axe-core/axe.min.js").read_text())
        found = page.evaluate("axe.run()")["violations"]
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / f"{scheme}-{width}-{lang}.png", full_page=True)


def test_served_packed_and_cached(site: str) -> None:
    home = httpx.get(site, headers={"Accept-Encoding": "identity"})
    assert home.headers["cache-control"] == "no-cache" and "content-encoding" not in home.headers
    script = home.text.split('src="')[1].split('"')[0]
    packed = httpx.get(site + script, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and "immutable" in packed.headers["cache-control"]
    assert packed.headers["content-type"].startswith("text/javascript") and packed.headers["vary"] == "Accept-Encoding"
    again = httpx.get(site + script, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]})
    assert again.status_code == 304
    with httpx.stream("GET", site + script, headers={"Accept-Encoding": "gzip, br"}) as smallest:
        assert smallest.headers["content-encoding"] == "br"
    assert accepted("br;q=0, gzip;q=0.5, *;q=x") == {"gzip"}


def test_says_when_it_is_not_built(tmp_path: Path) -> None:
    app = FastAPI()
    app.mount("/", Statics(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        answer = httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        server.should_exit = True
        thread.join()
    assert answer.status_code == 503 and "make page" in answer.text
