"""Photos of cases over real HTTP, on both databases and both stores: who may, how many, what is refused, and what is left."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image
from sqlalchemy import Engine, select

from deploy.migrate import migrate
from services.case import images, photos
from services.case.api import STAFF
from services.case.images import Cleaned, clean
from services.case.photos import MOST, Shot, Sweeping, attach, keep, make_sure
from services.case.photos_api import ADDING, JUDGING, Desk, Photo
from shared import audit
from shared.auth import ROLES, new_key
from shared.database import Tx, open_engine, reading
from shared.errors import Conflict
from shared.objects import S3, Files, bucket_client
from tests import served
from tests.case.pictures import BOMBS, TOKEN, marked, planted, png, written
from tests.federation.grounds import free_block
from tests.served import LEAF, ROOT, Served, refused
from tests.stores import BUCKET, Server, s3

__all__ = ["s3"]
CASES = "/api/case/v1/cases"
GOOD = written(marked((400, 300)))


@contextmanager
def office(base: Path, engine: Engine, store: Server | None = None) -> Iterator[Served]:
    """A node whose photos lie in its folder, or in the bucket of a store."""
    more: dict[str, Any] = {}
    if store is not None:
        secrets = base / LEAF / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        (secrets / "objects").write_text((store.secrets / "objects").read_text())
        more = {"objects": store.where}
    with served.node(base, engine, LEAF, **more) as found:
        yield found


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with office(tmp_path, engine) as found:
        yield found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One node on SQLite for questions whose answers depend on neither database nor store."""
    base = tmp_path_factory.mktemp("photos")
    engine = open_engine(f"sqlite:///{base}/node.db")
    migrate(engine)
    with office(base, engine) as found:
        yield found


def case(node: Served, **more: Any) -> str:
    answer = node.client.post(CASES, json={"category": "E0101", "lon": 87.62, "lat": 43.72} | more, headers=node.as_("collector"))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def send(
    node: Served, case_id: str, data: bytes = GOOD, role: str = "collector", name: str = "IMG.jpg", **texts: Any
) -> httpx.Response:  # fmt: skip
    texts = {"kind": "near"} | texts
    headers = node.as_(role)
    return node.client.post(f"{CASES}/{case_id}/photos", data=texts, files={"file": (name, data)}, headers=headers)


def added(node: Served, case_id: str, data: bytes = GOOD, **more: Any) -> dict[str, Any]:
    answer = send(node, case_id, data, **more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert found.keys() == Photo.model_fields.keys()
    return found


def look(node: Served, case_id: str, which: str = "", role: str = "checker", **headers: str) -> httpx.Response:
    return node.client.get(f"{CASES}/{case_id}/photos{which}", headers=node.as_(role) | headers)


def several(count: int) -> list[bytes]:
    return [written(Image.new("RGB", (40, 40), (n * 20, 0, 0)), "PNG") for n in range(count)]


def desk(node: Served) -> Desk:
    found: Desk = node.runtime.extra["photos"]
    return found


# The way of a photo ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["files", "s3"])
def test_a_photo_is_added_listed_and_shown(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest, kept: str) -> None:
    with office(tmp_path, engine, request.getfixturevalue("s3") if kept == "s3" else None) as node:
        assert isinstance(desk(node).objects, S3 if kept == "s3" else Files)
        case_id = case(node)
        place = {"kind": "after", "lon": "87.6195", "lat": "43.7201", "taken_at": "2026-03-01T08:00:00+08:00"}
        found = added(node, case_id, written(marked((3000, 2000))), **place)
        said = {"kind": "after", "width": 2048, "height": 1365, "lon": 87.6195, "lat": 43.7201, "withheld": False}
        assert found.items() >= said.items() and found["added_by_role"] == "collector"
        assert found["taken_at"] == "2026-03-01T00:00:00.000000Z"
        assert look(node, case_id).json() == {"items": [found]}
        picture, thumb = look(node, case_id, f"/{found['id']}"), look(node, case_id, f"/{found['id']}/thumb")
        assert len(picture.content) == found["bytes"]
        assert Image.open(io.BytesIO(picture.content)).size == (2048, 1365)
        assert Image.open(io.BytesIO(thumb.content)).size == (320, 213)
        for answer in (picture, thumb):
            assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"].startswith("private")
            assert answer.headers["content-disposition"].startswith(f'inline; filename="photo-{found["id"]}')
            known = {"If-None-Match": answer.headers["etag"]}
            again = look(node, case_id, answer.request.url.path.rpartition("/photos")[2], **known)
            assert again.status_code == 304 and again.content == b""
        assert look(node, case_id, f"/{found['id']}", **{"If-None-Match": '"other"'}).status_code == 200


def test_nothing_of_the_sent_file_is_stored_anywhere(node: Served, tmp_path: Path) -> None:
    """Every place of every format holds a token; it is in no file of the node: neither pictures nor database nor its journal."""
    case_id = case(node)
    for name, data in planted().items():
        assert TOKEN in data
        added(node, case_id, data, name=f"{TOKEN.decode()}-{name}.jpg", kind="reference")
    pictures = [look(node, case_id, f"/{p['id']}{end}") for p in look(node, case_id).json()["items"] for end in ("", "/thumb")]
    assert len(pictures) >= 4
    assert all(TOKEN not in answer.content and TOKEN.decode() not in str(answer.headers) for answer in pictures)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert sum(p.parent.parent.parent.name == "photos" for p in files) >= 4
    assert [str(p) for p in files if TOKEN in p.read_bytes() or TOKEN.decode() in p.name] == []
    with node.runtime.engine.connect() as connection:
        assert TOKEN.decode() not in str(connection.execute(select(photos.photos)).all())
        assert TOKEN.decode() not in str(connection.execute(select(audit.entries)).all())


def test_what_arrives_is_held_in_memory_and_never_written_to_a_disk(one: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    spilled: list[object] = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda file: spilled.append(file))
    added(one, case(one), written(Image.effect_noise((2200, 2200), 90).convert("RGB"), quality=90) + bytes(3_000_000))
    assert spilled == []


def test_the_same_photo_again_is_the_same_photo(node: Served) -> None:
    case_id = case(node)
    with ThreadPoolExecutor(6) as at_once:
        found = list(at_once.map(lambda _: send(node, case_id), range(6)))
    assert {answer.status_code for answer in found} == {201} and len({answer.json()["id"] for answer in found}) == 1
    other = added(node, case_id, kind="far")
    assert [p["kind"] for p in look(node, case_id).json()["items"]] == ["near", "far"]
    assert other["digest"] == found[0].json()["digest"]
    assert added(node, case(node))["id"] != found[0].json()["id"]


def test_a_case_has_nine_photos_also_when_many_come_at_once(node: Served) -> None:
    case_id = case(node)
    with ThreadPoolExecutor(6) as at_once:
        found = list(at_once.map(lambda data: send(node, case_id, data), several(12)))
    good, rest = [a for a in found if a.status_code == 201], [a for a in found if a.status_code != 201]
    assert len(good) == MOST == len(look(node, case_id).json()["items"])
    for answer in rest:
        refused(answer, 409, "/photos")
    assert send(node, case_id, several(12)[found.index(good[0])]).status_code == 201, "one that is there is no tenth"


def test_the_sender_goes_away_in_the_middle(one: Served) -> None:
    """Nothing is added, the room is given back, and it is no error of ours."""
    room = desk(one).door._left
    url, case_id = one.client.base_url, case(one)
    with socket.create_connection((url.host, url.port or 80)) as line:
        head = f"POST {CASES}/{case_id}/photos HTTP/1.1\r\nHost: x\r\nAuthorization: {one.as_('collector')['Authorization']}\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n--b\r\nContent-Disp"
        line.sendall(head.encode())
        time.sleep(0.2)
        assert desk(one).door._left == room - 100_000
    until = time.monotonic() + 5
    while desk(one).door._left != room and time.monotonic() < until:
        time.sleep(0.02)
    assert desk(one).door._left == room and look(one, case_id).json() == {"items": []}
    assert 'photos",status="5' not in one.client.get("/metrics").text.replace("'", '"')


# Who may -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", sorted(ROLES))
def test_who_may_add_look_and_withhold(one: Served, role: str) -> None:
    case_id = case(one)
    photo = added(one, case_id)
    answers = {
        "add": (send(one, case_id, role=role), ADDING, 201), "list": (look(one, case_id, role=role), STAFF, 200),
        "picture": (look(one, case_id, f"/{photo['id']}", role), STAFF, 200),
        "thumb": (look(one, case_id, f"/{photo['id']}/thumb", role), STAFF, 200),
        "withhold": (withhold(one, case_id, photo, role), JUDGING, 200),
    }  # fmt: skip
    for answer, may, status in answers.values():
        if role in may:
            assert answer.status_code == status, answer.text
        else:
            refused(answer, 403)


def test_nobody_without_credentials_or_with_those_of_another_place(one: Served) -> None:
    case_id = case(one)
    photo = added(one, case_id)
    foreign = {"Authorization": f"Bearer {one.token('collector', 'acceptor', node='650103')}"}
    for headers, status in (({}, 401), (foreign, 403)):
        path = f"{CASES}/{case_id}/photos"
        refused(one.client.post(path, data={"kind": "near"}, files={"file": GOOD}, headers=headers), status)
        for which in ("", f"/{photo['id']}", f"/{photo['id']}/thumb"):
            refused(one.client.get(path + which, headers=headers), status)
        refused(one.client.post(f"{path}/{photo['id']}/withhold", json={"reason": "x"}, headers=headers), status)


def test_a_department_adds_to_its_own_cases_only(one: Served) -> None:
    case_id = case(one)
    grant = [{"role": "department", "node": ROOT, "department": "lamps"}]
    headers = {"Authorization": f"Bearer {one.token(sanji=grant)}"}
    path = f"{CASES}/{case_id}/photos"
    sent = {"data": {"kind": "after"}, "files": {"file": GOOD}, "headers": headers}
    refused(one.client.post(path, **sent), 403)  # type: ignore[arg-type]
    for version, (action, role, more) in enumerate(
        [("file", "shift_supervisor", {"condition": "1"}), ("dispatch", "dispatcher", {"department": "lamps"})], 1
    ):
        body = {"action": action, "version": version} | more
        done = one.client.post(f"{CASES}/{case_id}/actions", json=body, headers=one.as_(role))
        assert done.status_code == 200, done.text
    answer = one.client.post(path, **sent)  # type: ignore[arg-type]
    assert answer.status_code == 201 and answer.json()["added_by_role"] == "department"


def test_an_ended_case_takes_no_photo_but_one_after_the_work(node: Served) -> None:
    refusing, closing = case(node), case(node, self_handled=True)
    for case_id, action, more in ((refusing, "refuse", {"reason": "other"}), (closing, "grant", {})):
        body = {"action": action, "version": 1} | more
        assert node.client.post(f"{CASES}/{case_id}/actions", json=body, headers=node.as_("acceptor")).status_code == 200
    for case_id, kind in ((refusing, "near"), (refusing, "after"), (closing, "near"), (closing, "before")):
        refused(send(node, case_id, kind=kind), 409, "/case")
    assert added(node, closing, kind="after")["kind"] == "after"


def test_only_photos_of_this_case_are_shown(one: Served) -> None:
    mine, other = case(one), case(one)
    photo = added(one, mine)
    elsewhere = f"{other}/photos/{photo['id']}"
    for path in (elsewhere, f"{elsewhere}/thumb", f"{mine}/photos/nothing", "nothing/photos"):
        refused(one.client.get(f"{CASES}/{path}", headers=one.as_("checker")), 404)
    refused(send(one, "nothing"), 404, "/case")
    refused(withhold(one, other, photo), 404)
    refused(look(one, mine, "?kind=near"), 422, "/kind")


# Withholding -------------------------------------------------------------------------------------------------------------


def withhold(node: Served, case_id: str, photo: dict[str, Any], role: str = "acceptor", **more: Any) -> httpx.Response:
    body = {"reason": "a number plate"} | more
    return node.client.post(f"{CASES}/{case_id}/photos/{photo['id']}/withhold", json=body, headers=node.as_(role))


def noted(node: Served, case_id: str) -> list[tuple[str, str | None]]:
    with reading(node.runtime.engine) as connection:
        found = audit.page(connection, audit.Sought(kind="case", subject=case_id))
    return [(e["action"], e["reason"]) for e in reversed(found) if "photo" in e["action"] or "withheld" in e["action"]]


def test_a_withheld_photo_is_shown_to_its_judges_alone_and_each_look_is_noted(node: Served) -> None:
    case_id = case(node)
    photo = added(node, case_id)
    seen = look(node, case_id, f"/{photo['id']}")
    done = withhold(node, case_id, photo)
    assert done.json() == photo | {"withheld": True, "withheld_reason": "a number plate"}
    for which in (f"/{photo['id']}", f"/{photo['id']}/thumb"):
        refused(look(node, case_id, which), 403)
        refused(look(node, case_id, which, **{"If-None-Match": seen.headers["etag"]}), 403)
        assert look(node, case_id, which, "shift_supervisor").status_code == 200
    refused(withhold(node, case_id, photo), 409, "/withheld")
    assert added(node, case_id)["withheld"], "sending it again does not bring it back"
    assert withhold(node, case_id, photo, withheld=False).json() == photo
    assert look(node, case_id, f"/{photo['id']}").content == seen.content
    looked: list[tuple[str, str | None]] = [("view_withheld", None)] * 2
    asked = ("withhold_photo", "a number plate"), ("release_photo", "a number plate")
    assert noted(node, case_id) == [("add_photo", None), asked[0], *looked, asked[1]]
    assert audit.verify(node.runtime.engine).fault == ""


WORDLESS: list[dict[str, Any]] = [{}, *({"reason": r} for r in ("", "x" * 501, "<b>x</b>", None)), {"reason": "x", "withheld": 1}]


@pytest.mark.parametrize("body", WORDLESS)
def test_withholding_needs_a_reason_in_plain_words(one: Served, body: dict[str, Any]) -> None:
    case_id = case(one)
    photo = added(one, case_id)
    path = f"{CASES}/{case_id}/photos/{photo['id']}/withhold"
    refused(one.client.post(path, json=body, headers=one.as_("acceptor")), 422)


def test_a_withheld_photo_makes_room_and_comes_back_only_into_room(one: Served) -> None:
    case_id = case(one)
    first, *_ = [added(one, case_id, data) for data in several(MOST)]
    refused(send(one, case_id), 409, "/photos")
    withhold(one, case_id, first)
    added(one, case_id)
    refused(withhold(one, case_id, first, withheld=False), 409, "/photos")
    with reading(one.runtime.engine) as connection:
        assert photos.has(connection, case_id, "near") and not photos.has(connection, case_id, "after")


def test_a_withheld_photo_does_not_count_as_one_of_its_kind(one: Served) -> None:
    case_id = case(one)
    photo = added(one, case_id, kind="after")
    for withheld in (True, False):
        withhold(one, case_id, photo, withheld=withheld)
        with reading(one.runtime.engine) as connection:
            assert photos.has(connection, case_id, "after") != withheld


# Forms that are refused --------------------------------------------------------------------------------------------------

SOON = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no kind": ({"kind": ""}, "/kind"), "unknown kind": ({"kind": "selfie"}, "/kind"), "half a place": ({"lon": "87.6"}, "/lat"),
    "the other half": ({"lat": "43.7"}, "/lon"), "nowhere": ({"lon": "181", "lat": "1"}, "/lon"),
    "no number": ({"lon": "east", "lat": "1"}, "/lon"), "nan": ({"lon": "nan", "lat": "1"}, "/lon"),
    "endless": ({"lon": "1", "lat": "inf"}, "/lat"), "no offset": ({"taken_at": "2026-03-01T08:00:00"}, "/taken_at"),
    "seconds": ({"taken_at": "1700000000"}, "/taken_at"), "the future": ({"taken_at": SOON}, "/taken_at"),
    "more": ({"caption": "x"}, "/caption"), "twice": ({"kind": ["near", "far"]}, "/kind"),
    "a long text": ({"kind": "x" * 5000}, "/body"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_text_is_refused_by_its_name_before_the_photo_is_looked_at(
    one: Served, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:  # fmt: skip
    monkeypatch.setattr(images, "clean", lambda _: pytest.fail("the photo was looked at"))
    texts, field = WRONG[name]
    case_id = case(one)
    refused(send(one, case_id, **texts), 422, field)
    assert look(one, case_id).json() == {"items": []}


def form(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """A multipart body whose parts have these dispositions."""
    return b"".join(b"--b\r\nContent-Disposition: form-data; " + d.encode() + b"\r\n\r\n" + c + b"\r\n" for d, c in parts) + end


FILE = ('name="file"; filename="a.jpg"', GOOD)
KIND = ('name="kind"', b"near")
ODD: dict[str, tuple[str, bytes, str]] = {
    "json": ("application/json", b"{}", "/content-type"), "nothing said": ("", b"", "/content-type"),
    "urlencoded": ("application/x-www-form-urlencoded", b"kind=near", "/content-type"),
    "no boundary": ("multipart/form-data", form(FILE, KIND), "/body"),
    "another boundary": ("multipart/form-data; boundary=c", form(FILE, KIND), "/body"),
    "long boundary": (f"multipart/form-data; boundary={'b' * 5000}", form(FILE, KIND), "/body"),
    "no form": ("multipart/form-data; boundary=b", b"hello", "/body"),
    "no end": ("multipart/form-data; boundary=b", form(KIND, FILE, end=b""), "/body"),
    "empty": ("multipart/form-data; boundary=b", b"", "/body"),
    "no file": ("multipart/form-data; boundary=b", form(KIND), "/file"),
    "a text for a file": ("multipart/form-data; boundary=b", form(KIND, ('name="file"', b"x")), "/file"),
    "a file for a text": ("multipart/form-data; boundary=b", form(('name="kind"; filename="k"', b"near")), "/kind"),
    "two files": ("multipart/form-data; boundary=b", form(KIND, FILE, FILE), "/body"),
    "no name": ("multipart/form-data; boundary=b", form(('filename="x"', b"y")), "/body"),
    "a long name": ("multipart/form-data; boundary=b", form((f'name="{"n" * 3000}"', b"y")), f"/{'n' * 40}"),
    "a header without end": ("multipart/form-data; boundary=b", form((f'name="{"n" * 500_000}"', b"y")), "/body"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_form_with_one_file_is_refused_in_words(one: Served, name: str) -> None:
    kind, body, field = ODD[name]
    headers = one.as_("collector") | ({"content-type": kind} if kind else {})
    refused(one.client.post(f"{CASES}/{case(one)}/photos", content=body, headers=headers), 422, field)


@pytest.mark.parametrize("disposition", ['name="x{n}"', 'name="x{n}"; filename="{n}.jpg"', 'name="kind"'])
def test_ten_thousand_parts_are_refused_as_such(one: Served, disposition: str) -> None:
    body = form(*((disposition.format(n=n), b"x") for n in range(10_000)))
    headers = one.as_("collector") | {"content-type": "multipart/form-data; boundary=b"}
    begun = time.perf_counter()
    found = refused(one.client.post(f"{CASES}/{case(one)}/photos", content=body, headers=headers), 422, "/body")
    assert "at most 20 parts" in found["detail"] or "Maximum number of files" in found["detail"]
    assert time.perf_counter() - begun < 2
    assert send(one, case(one)).status_code == 201


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_long_is_refused_with_or_without_its_length(one: Served, declared: bool) -> None:
    body = form(KIND, (FILE[0], GOOD + bytes(9_000_000)))
    content: Any = body if declared else (body[n : n + 65536] for n in range(0, len(body), 65536))
    headers = one.as_("collector") | {"content-type": "multipart/form-data; boundary=b"}
    refused(one.client.post(f"{CASES}/{case(one)}/photos", content=content, headers=headers), 413)


@pytest.mark.parametrize("name", [*BOMBS, "cut off", "svg", "html", "animation"])
def test_files_that_are_no_photo_are_refused(one: Served, name: str) -> None:
    more: dict[str, Callable[[], bytes]] = {
        "cut off": lambda: GOOD[: len(GOOD) // 2], "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "html": lambda: b"<!doctype html><script>1</script>",
        "animation": lambda: written(marked(), "PNG", save_all=True, append_images=[Image.new("RGB", (120, 80))]),
    }  # fmt: skip
    case_id = case(one)
    refused(send(one, case_id, (BOMBS | more)[name](), name="photo.jpg"), 422, "/file")
    assert look(one, case_id).json() == {"items": []}


def test_the_name_and_the_type_that_the_sender_gives_do_not_count(one: Served) -> None:
    path, headers = f"{CASES}/{case(one)}/photos", one.as_("collector")
    for n, name in enumerate(["../../etc/passwd", "x.svg", "a\0b.gif", "照片.heic", ""]):
        sent = {"file": (name or "x", several(9)[n], "text/html")}
        answer = one.client.post(path, data={"kind": "near"}, files=sent, headers=headers)
        assert answer.status_code == 201, answer.text


# The store ---------------------------------------------------------------------------------------------------------------


def where(node: Served, digest: str) -> Path:
    objects = desk(node).objects
    assert isinstance(objects, Files)
    return objects.folder / digest[:2] / digest[2:4] / digest


def test_a_picture_that_was_lost_or_changed_on_the_disk_is_never_shown(one: Served) -> None:
    case_id = case(one)
    photo = added(one, case_id)
    path = where(one, photo["digest"])
    path.write_bytes(b"<script>")
    assert refused(look(one, case_id, f"/{photo['id']}"), 500)["type"] == "urn:sanji:problem:damaged"
    path.unlink()
    refused(look(one, case_id, f"/{photo['id']}"), 404)
    assert added(one, case_id) == photo
    assert look(one, case_id, f"/{photo['id']}").status_code == 200, "sending it again mends it"


def test_while_the_store_is_gone_photos_are_told_to_come_again(engine: Engine, tmp_path: Path, s3: Server) -> None:  # noqa: F811
    with office(tmp_path, engine, s3) as node:
        case_id = case(node)
        photo, objects = added(node, case_id), desk(node).objects
        gone = s3.where.model_copy(update={"endpoint": f"http://127.0.0.1:{free_block()}"})
        desk(node).objects = S3(bucket_client(gone, s3.secrets), BUCKET, "x")
        for answer in (send(node, case_id, kind="far"), look(node, case_id, f"/{photo['id']}")):
            refused(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        assert len(look(node, case_id).json()["items"]) == 1
        desk(node).objects = objects
        assert send(node, case_id, kind="far").status_code == 201


def tried(node: Served, work: Callable[[Tx], Any]) -> Any:
    return node.runtime.writer.submit(work).result(10)


def test_a_citizens_photo_is_attached_with_the_report(node: Served) -> None:
    """What the citizen's form does: clean, keep, attach in the transaction of the report or later, make sure."""
    case_id, objects = case(node), desk(node).objects
    cleaned = clean(GOOD)
    stored = keep(objects, cleaned)
    row = tried(node, lambda tx: attach(tx, case_id, stored, Shot("reference")))
    objects.delete(stored.digest)
    make_sure(objects, stored, cleaned)
    assert row["added_by_role"] == "reporter" and look(node, case_id, f"/{row['id']}").content == cleaned.image
    assert noted(node, case_id) == [("add_photo", None)]
    for _ in range(3):
        assert tried(node, lambda tx: attach(tx, case_id, stored, Shot("reference"))) == row
    for n in range(MOST - 1):
        tried(node, lambda tx, n=n: attach(tx, case_id, stored._replace(digest=f"{n:064x}"), Shot("near")))
    with pytest.raises(Conflict):
        tried(node, lambda tx: attach(tx, case_id, stored, Shot("far")))


def test_the_sweep_leaves_what_photos_name_and_takes_what_none_does(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "PAUSE", 0)
    case_id, objects = case(node), desk(node).objects
    shown = added(node, case_id)
    hidden = added(node, case_id, kind="far", data=several(1)[0])
    withhold(node, case_id, hidden)
    unused = keep(objects, Cleaned(b"never attached", b"its thumbnail", 1, 1))
    young = keep(objects, Cleaned(b"just put", b"just put too", 1, 1))
    for found in list(objects.each()):
        if found.digest not in (young.digest, young.thumb):
            os.utime(where(node, found.digest), (0, 0))
    sweeping = Sweeping(node.runtime.engine, objects)
    asyncio.run(sweeping.turn())
    assert sweeping.swept == 2 and not objects.has(unused.digest) and not objects.has(unused.thumb)
    assert objects.has(young.digest) and objects.has(young.thumb)
    for photo in (shown, hidden):
        for end in ("", "/thumb"):
            assert look(node, case_id, f"/{photo['id']}{end}", "acceptor").status_code == 200
    assert "loop photos" not in node.client.get("/readyz").json()["troubles"]
    assert node.runtime.loops.states["photos"].failures == 0


# Under attack ------------------------------------------------------------------------------------------------------------


def peak(pid: int) -> int:
    """The most memory in MB that a process ever held."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[int, httpx.Client]]:
    """The case service as a process of its own, and a client with the rights of a collector."""
    settings = served.settings(tmp_path, LEAF)
    engine, port = open_engine(settings.database_url), free_block()
    migrate(engine)
    key = new_key(engine, LEAF, "collector", "urn:test", 1)
    engine.dispose()
    path = tmp_path / LEAF / "node.json"
    path.write_bytes(orjson.dumps(settings.model_copy(update={"ports": {"case": port}}).model_dump(mode="json")))
    program = f"from deploy.node import serve; serve({str(path)!r}, 'case')"
    log = tmp_path / "log"
    with log.open("wb") as out:
        child = subprocess.Popen([sys.executable, "-c", program], stdout=out, stderr=out)
    try:
        base = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            until = time.monotonic() + 120
            while True:
                try:
                    client.get("/livez")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < until and child.poll() is None, log.read_text()
                    time.sleep(0.1)
            yield child.pid, client
    finally:
        child.kill()
        child.wait(20)


@pytest.mark.timeout(300)
def test_bombs_cost_the_serving_process_neither_memory_nor_time(process: tuple[int, httpx.Client]) -> None:
    """Fifty 30000 x 30000 bombs, fifty files of 8 MB, ten photos as large as any, eight at once; others are served meanwhile."""
    pid, client = process
    body = {"category": "E0101", "lon": 87.62, "lat": 43.72}
    case_id = client.post(CASES, json=body).json()["id"]
    path = f"{CASES}/{case_id}/photos"

    def post(data: bytes) -> int:
        return client.post(path, data={"kind": "near"}, files={"file": ("x.png", data)}).status_code

    assert post(GOOD) == 201
    before, taken, ended = peak(pid), list[float](), threading.Event()

    def others() -> None:
        while not ended.is_set():
            begun = time.perf_counter()
            assert client.post(CASES, json=body).status_code == 201
            taken.append(time.perf_counter() - begun)
            time.sleep(0.02)

    bomb, largest, longest = png(30_000, 30_000), png(10_000, 5_000), GOOD + bytes(8_000_000)
    with ThreadPoolExecutor(9) as at_once:
        waiting = at_once.submit(others)
        found = [f.result() for f in [at_once.submit(post, data) for data in [bomb, longest] * 50 + [largest] * 10]]
        ended.set()
        waiting.result()
    assert set(found) <= {201, 422, 503} and found.count(422) >= 50
    assert post(several(1)[0]) == 201
    grown, slowest = peak(pid) - before, statistics.quantiles(taken, n=100)[98]
    print(f"grown by {grown} MB from {before} MB; p99 of others {slowest * 1000:.0f} ms of {len(taken)}; {found.count(503)} busy")
    assert grown < 100 and slowest < 1
