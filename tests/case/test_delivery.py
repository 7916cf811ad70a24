"""Delivery as the other side meets it: signed calls and mails over real servers, in order, again after failures, one at a time.

A stranger's library checks the signatures, a real mail server takes the mails, and a killed process is really killed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import Engine
from standardwebhooks import Webhook, WebhookVerificationError

from deploy.render import render
from deploy.topology import load
from services.case import book, outbox, reach, webhooks
from services.case.book import Address
from services.case.outbox import Draft
from services.case.webhooks import Signer
from shared.database import Tx, reading
from shared.errors import Conflict, Invalid
from shared.settings import Mail, Outgoing
from shared.settings import load as load_node
from tests import served
from tests.case.copies import NODE, Copy, send_until_killed
from tests.case.receivers import Receiver, mailing, receiving
from tests.served import LEAF, ROOT, Served, refused
from tests.world import Clock

API = "/api/case/v1"
CALL = {"type": "cn.sanji.notice.reached.v1", "time": "2026-03-02T01:00:00.000000Z", "subject": "case-1", "data": {"n": 0}}
LINE = {"event": "overdue", "at": CALL["time"], "state": "handling", "number": "99-20260302-00001", "category": "E0101",
        "division": "99", "due_at": "2026-03-02T01:00:00.000000Z"}  # fmt: skip
LETTER = {"kind": "notices", "lines": [LINE], "more": 0}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def copy(engine: Engine, tmp_path: Path) -> Iterator[Copy]:
    found = Copy(engine, tmp_path, Clock())
    yield found
    found.writer.close()


def calls(hook: dict[str, Any], count: int, start: int = 0) -> list[Draft]:
    return [Draft("webhook", webhooks.target(hook["id"]), CALL | {"data": {"n": n}}) for n in range(start, start + count)]


def numbers(receiver: Receiver) -> list[int]:
    return [orjson.loads(body)["data"]["n"] for _, _, body in receiver.came]


# Calls --------------------------------------------------------------------------------------------------------------------


def test_calls_come_signed_and_in_order(engine: Engine, tmp_path: Path, receiver: Receiver) -> None:
    copy = Copy(engine, tmp_path, lambda: datetime.now(UTC))
    hook = copy.hook(receiver.url)
    copy.put(*calls(hook, 30))
    copy.run(20, lambda: len(receiver.came) == 30)
    assert numbers(receiver) == list(range(30)) and receiver.most_at_once == 1
    secret = copy.signer.secret(hook)
    for _, headers, body in receiver.came:
        event = Webhook(secret).verify(body, headers)
        assert event["id"] == headers["webhook-id"] and event["source"] == f"/{NODE}/case"
        assert (event["specversion"], event["type"], event["subject"]) == ("1.0", CALL["type"], "case-1")
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body.replace(b"case-1", b"case-2"), headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers | {"webhook-id": "msg_other"})
    assert len(set(receiver.ids())) == 30
    assert {i["state"] for i in copy.items()} == {"sent"}
    copy.writer.close()


def test_after_a_change_both_secrets_are_valid_for_a_while(engine: Engine, tmp_path: Path, receiver: Receiver) -> None:
    copy = Copy(engine, tmp_path, lambda: datetime.now(UTC))
    hook = copy.hook(receiver.url)
    old = copy.signer.secret(hook)
    changed = copy.writer.run(lambda tx: webhooks.rotate(tx, hook["id"], 24))
    new = copy.signer.secret(changed)
    assert old != new and old.startswith("whsec_")
    copy.put(*calls(hook, 1))
    copy.run(10, lambda: len(receiver.came) == 1)
    _, headers, body = receiver.came[0]
    for secret in (old, new):
        Webhook(secret).verify(body, headers)
    copy.writer.run(lambda tx: webhooks.rotate(tx, hook["id"], 0))
    copy.put(*calls(hook, 1))
    copy.run(10, lambda: len(receiver.came) == 2)
    _, headers, body = receiver.came[1]
    for secret in (old, new):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)
    with reading(engine) as connection:
        Webhook(copy.signer.secret(webhooks.one(connection, hook["id"]))).verify(body, headers)
    copy.writer.close()


def test_the_key_is_one_and_its_owners_alone(tmp_path: Path) -> None:
    row = {"id": "one", "secret": 1}
    found = {Signer(tmp_path / "secrets" / "webhooks.key").secret(row) for _ in range(3)}
    assert len(found) == 1
    assert (tmp_path / "secrets" / "webhooks.key").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / "secrets").iterdir()] == ["webhooks.key"]
    assert Signer(tmp_path / "other").secret(row) not in found
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(RuntimeError):
        Signer(tmp_path / "short").secret(row)


def test_what_is_not_taken_comes_again_and_nothing_overtakes_it(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    receiver.answers = [500, 302, 429]
    receiver.headers = {"Location": receiver.url + "/elsewhere", "Retry-After": "120"}
    copy.put(*calls(hook, 3))
    copy.run(3, lambda: len(receiver.came) == 1)
    copy.run(1)
    assert numbers(receiver) == [0], "before its time nobody tries"
    first = copy.items()[0]
    wait = datetime.fromisoformat(first["next_try_at"]) - copy.clock()
    assert (first["tries"], first["last_error"], first["state"]) == (1, "status 500", "waiting")
    assert timedelta(seconds=3.75) <= wait <= timedelta(seconds=6.25), "about five seconds, and not all at once"
    copy.clock.at += timedelta(seconds=7)  # type: ignore[attr-defined]
    copy.run(3, lambda: len(receiver.came) == 2)
    assert copy.items()[0]["last_error"] == "status 302", "a redirect is not followed"
    copy.clock.at += timedelta(seconds=15)  # type: ignore[attr-defined]
    copy.run(3, lambda: len(receiver.came) == 3)
    asked = datetime.fromisoformat(copy.items()[0]["next_try_at"]) - copy.clock()
    assert asked == timedelta(seconds=120), "left alone for as long as it asked"
    copy.clock.at += timedelta(seconds=121)  # type: ignore[attr-defined]
    copy.run(10, lambda: len(receiver.came) == 6)
    assert numbers(receiver) == [0, 0, 0, 0, 1, 2]
    assert len(set(receiver.ids()[:4])) == 1, "the same id at every attempt"
    assert all(path == "/hook" for path, _, _ in receiver.came)


def test_pauses_grow_and_end() -> None:
    means = [sum(outbox.pause(n) for _ in range(300)) / 300 for n in range(14)]
    assert all(later > sooner * 1.7 for sooner, later in zip(means[:8], means[1:9], strict=True))
    assert all(outbox.pause(n) <= outbox.LONGEST * 1.25 for n in (12, 50, 10_000))


def test_a_target_that_is_down_holds_up_no_other(copy: Copy, receiver: Receiver) -> None:
    dead = copy.hook("http://127.0.0.1:9/hook")
    copy.put(*calls(dead, 500))
    alive = copy.hook(receiver.url)
    copy.put(*calls(alive, 5))
    copy.run(10, lambda: len(receiver.came) == 5)
    assert numbers(receiver) == list(range(5))
    assert sum(i["tries"] for i in copy.items(target=webhooks.target(dead["id"]))) == 1


def test_an_endpoint_that_fails_for_days_is_switched_off(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    receiver.answers = [500] * 100
    copy.put(*calls(hook, 3))
    copy.run(3, lambda: len(receiver.came) == 1)
    copy.clock.at += timedelta(days=2)  # type: ignore[attr-defined]
    copy.run(3, lambda: len(receiver.came) == 2)
    assert copy.told() == []
    copy.clock.at += timedelta(days=1, seconds=1)  # type: ignore[attr-defined]
    copy.run(3, lambda: len(receiver.came) == 3)
    copy.run(1)
    assert copy.told() == [("webhook_off", {"webhook": hook["id"], "error": "status 500", "given_up": 2})]
    assert [i["state"] for i in copy.items()] == ["failed"] * 3 and len(receiver.came) == 3
    with reading(copy.engine) as connection:
        row = webhooks.one(connection, hook["id"])
        assert (row["enabled"], row["disabled_why"]) == (False, "status 500")
        assert book.of(connection).hooks == (), "what happens from now on is not even written for it"
    receiver.answers = []

    def on_again(tx: Tx) -> int:
        webhooks.change(tx, hook["id"], webhooks.subscription(row | {"enabled": True}))
        book.changed(tx.connection)
        return outbox.replay_since(tx, copy.clock() - timedelta(days=30), "failed", webhooks.target(hook["id"]))

    assert copy.writer.run(on_again) == 3
    copy.run(10, lambda: len(receiver.came) == 6)
    assert numbers(receiver)[3:] == [0, 1, 2]


def test_an_endpoint_that_is_gone_is_switched_off_at_once(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    receiver.answers = [410]
    copy.put(*calls(hook, 2))
    copy.run(3, lambda: bool(copy.told()))
    assert [kind for kind, _ in copy.told()] == ["webhook_off"]
    assert {i["state"] for i in copy.items()} == {"failed"} and len(receiver.came) == 1


def test_what_waits_for_a_removed_endpoint_is_given_up(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    copy.put(*calls(hook, 2))
    copy.writer.run(lambda tx: webhooks.remove(tx, hook["id"]))
    copy.run(5, lambda: {i["state"] for i in copy.items()} == {"failed"})
    assert {i["last_error"] for i in copy.items()} == {"switched off"} and receiver.came == []


def test_several_copies_never_call_one_target_at_once(engine: Engine, tmp_path: Path, receiver: Receiver) -> None:
    """Four copies with writers of their own, two targets: each item comes once, in order, and no two at a time."""
    clock = Clock()
    copies = [Copy(engine, tmp_path, clock) for _ in range(4)]
    hooks = [copies[0].hook(f"{receiver.url}/{n}") for n in range(2)]
    for hook in hooks:
        copies[0].put(*calls(hook, 25))
    receiver.slow = 0.02

    async def work() -> None:
        end = time.monotonic() + 40
        while len(receiver.came) < 50 and time.monotonic() < end:
            await asyncio.gather(*(copy.delivery.turn() for copy in copies))
        await asyncio.gather(*(copy.delivery.stop() for copy in copies))

    asyncio.run(work())
    for n in range(2):
        there = [orjson.loads(body)["data"]["n"] for path, _, body in receiver.came if path.endswith(str(n))]
        assert there == list(range(25))
    assert receiver.most_at_once <= 2
    for copy in copies:
        copy.writer.close()


def test_a_killed_process_loses_nothing(engine: Engine, tmp_path: Path, receiver: Receiver) -> None:
    """Killed in the middle of its calls; who knows ids has each once and in order."""
    copy = Copy(engine, tmp_path, lambda: datetime.now(UTC))
    hook = copy.hook(receiver.url)
    copy.put(*calls(hook, 24))
    copy.writer.close()
    receiver.slow = 0.1
    url = engine.url.render_as_string(hide_password=False)
    spawn = multiprocessing.get_context("spawn")
    for turn, count in enumerate((8, 24)):
        # Its clock is ahead, so that the lease of the one before has run out.
        process = spawn.Process(target=send_until_killed, args=(url, str(tmp_path), turn * 120.0), daemon=True)
        process.start()
        receiver.wait(count, 60, different=True)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
    once = list(dict.fromkeys(receiver.ids()))
    assert len(once) == 24
    first = {orjson.loads(body)["id"]: orjson.loads(body)["data"]["n"] for _, _, body in receiver.came}
    assert [first[i] for i in once] == list(range(24))


def test_an_orderly_stop_gives_back_what_it_had(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    receiver.slow = 1.0
    copy.put(*calls(hook, 1))
    copy.run(0.6)
    receiver.slow = 0
    copy.run(10, lambda: [i["state"] for i in copy.items()] == ["sent"])
    assert [i["state"] for i in copy.items()] == ["sent"], "no lease to wait for"


def test_replay_keeps_the_id(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    copy.put(*calls(hook, 1))
    copy.run(10, lambda: len(receiver.came) == 1)
    (item,) = copy.items()
    assert copy.writer.run(lambda tx: outbox.replay(tx, item["id"]))["state"] == "waiting"
    with pytest.raises(Conflict):
        copy.writer.run(lambda tx: outbox.replay(tx, item["id"]))
    copy.run(10, lambda: len(receiver.came) == 2)
    assert receiver.ids() == [item["id"]] * 2


def test_what_was_sent_long_ago_is_forgotten(copy: Copy, receiver: Receiver) -> None:
    hook = copy.hook(receiver.url)
    copy.put(*calls(hook, 2))
    copy.run(10, lambda: len(receiver.came) == 2)
    assert copy.writer.run(lambda tx: outbox.forget(tx, 100)) == 0
    copy.put(*calls(hook, 1))
    copy.clock.at += timedelta(days=31)  # type: ignore[attr-defined]
    assert copy.writer.run(lambda tx: outbox.forget(tx, 100)) == 2
    assert [i["state"] for i in copy.items()] == ["waiting"]


# Where calls may go --------------------------------------------------------------------------------------------------------

LOOP = ("127.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("address", "https", "http"),
    [("8.8.8.8", True, False), ("2001:4860:4860::8888", True, False), ("127.0.0.1", True, True), ("::1", True, True),
     ("::ffff:127.0.0.1", True, True), ("10.1.2.3", False, False), ("172.16.0.1", False, False), ("192.168.0.1", False, False),
     ("169.254.169.254", False, False), ("fe80::1", False, False), ("fd00:ec2::254", False, False), ("100.64.0.1", False, False),
     ("0.0.0.0", False, False), ("::", False, False), ("224.0.0.1", False, False), ("255.255.255.255", False, False),
     ("::ffff:10.0.0.1", False, False), ("64:ff9b::a9fe:a9fe", False, False), ("2002:a9fe:a9fe::1", False, False)],
)  # fmt: skip
def test_which_addresses_are_called(address: str, https: bool, http: bool) -> None:
    found = ip_address(address)
    assert (reach.permitted(found, "https", LOOP), reach.permitted(found, "http", LOOP)) == (https, http)
    assert reach.permitted(found, "http", ("0.0.0.0/0", "::/0")), "but where the node lists the network"


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "https://", "https://a:b@c.example/", "https://a.example/#x", "nonsense", "http:///x"]
)
def test_what_is_no_url_to_call(url: str) -> None:
    with pytest.raises(Invalid):
        reach.parsed(url)


def test_a_name_that_leads_inside_is_not_called(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    assert asyncio.run(reach.post(url, b"{}", {}, LOOP)).well
    answer = asyncio.run(reach.post(url, b"{}", {}, ()))
    assert (answer.well, answer.error, len(receiver.came)) == (False, "the address is not one to call from here", 1)
    assert asyncio.run(reach.post("https://nowhere.invalid/", b"{}", {}, LOOP)).error == "the host is not known"


def test_an_endpoint_that_never_answers_costs_ten_seconds(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "SECONDS", 0.5)
    receiver.slow = 3
    begun = time.monotonic()
    assert asyncio.run(reach.post(receiver.url, b"{}", {}, LOOP)).error == "no answer in time"
    assert time.monotonic() - begun < 1.5


# Mail ----------------------------------------------------------------------------------------------------------------------


def posted(copy: Copy, port: int, *payloads: dict[str, Any], **settings: Any) -> None:
    mail = Mail.model_validate({"host": "127.0.0.1", "port": port, "sender": "sanji@city.example", "tls": "none"} | settings)
    copy.node = copy.node.model_copy(update={"mail": mail})
    address = Address.model_validate({"address": "hans@office.example", "language": "en"})
    copy.writer.run(lambda tx: book.put_address(tx, "hans", address, "boss"))
    copy.put(*(Draft("mail", "account:hans", payload) for payload in payloads))


def test_a_mail_says_what_is_the_matter_and_no_more(copy: Copy) -> None:
    with mailing() as box:
        posted(copy, box.port, LETTER, LETTER | {"lines": [LINE] * 2, "more": 3})
        copy.run(10, lambda: len(box.mails) == 2)
    first, second = box.mails
    (item, _) = copy.items()
    assert (first["to"], first["from"]) == ("hans@office.example", "sanji@city.example")
    assert first["message-id"] == f"<{item['id']}@city.example>" and first["auto-submitted"] == "auto-generated"
    assert first["subject"] == "overdue 99-20260302-00001" and second["subject"] == "notices of 5 cases"
    text, html = (first.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[union-attr]
    for shown in (text, html):
        assert all(word in shown for word in ("99-20260302-00001", "E0101", "Some", "2026-03-02 09:00"))
    assert "and 3 more" in second.get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_chinese_mails_and_the_digest(copy: Copy) -> None:
    figures = {"opened": 7, "closed": 5, "open": 9, "overdue": 2, "supervised": 1,
               "oldest": {"number": "99-1", "category": "E0101", "reported_at": CALL["time"]}}  # fmt: skip
    with mailing() as box:
        posted(copy, box.port, LETTER, {"kind": "digest", "week": "2026-W09", "target": "role:leader", "figures": figures})
        address = Address.model_validate({"address": "hans@office.example", "language": "zh"})
        copy.writer.run(lambda tx: book.put_address(tx, "hans", address, "boss"))
        copy.run(10, lambda: len(box.mails) == 2)
    text, weekly = (m.get_body(("plain",)).get_content() for m in box.mails)  # type: ignore[union-attr]
    assert "已超期" in text and "某区" in text and box.mails[1]["subject"] == "周报 2026-W09 督办领导"
    assert "上周新增: 7" in weekly and "99-1" in weekly


def test_mails_come_again_and_some_are_given_up(copy: Copy) -> None:
    with mailing() as box:
        box.refusals = ["451 later", "550 nobody"]
        posted(copy, box.port, LETTER, LETTER)
        copy.run(5, lambda: copy.items()[0]["tries"] == 1)
        assert copy.items()[0]["last_error"] == "SMTP 451" and box.mails == []
        copy.clock.at += timedelta(seconds=7)  # type: ignore[attr-defined]
        copy.run(5, lambda: bool(copy.told()))
        assert copy.told()[0][0] == "undelivered" and copy.told()[0][1]["error"] == "SMTP 550"
        copy.run(5, lambda: len(box.mails) == 1)
    assert [i["state"] for i in copy.items()] == ["failed", "sent"]


def test_who_has_no_address_any_more_gets_nothing(copy: Copy) -> None:
    with mailing() as box:
        posted(copy, box.port, LETTER)
        copy.writer.run(lambda tx: book.remove_address(tx, "hans"))
        copy.run(5, lambda: copy.items()[0]["state"] == "failed")
    assert box.mails == [] and copy.items()[0]["last_error"] == "no address any more"


def test_without_a_server_mails_wait_and_are_given_up_after_days(copy: Copy) -> None:
    copy.put(Draft("mail", "account:hans", LETTER))
    copy.run(5, lambda: copy.items()[0]["tries"] == 1)
    assert copy.items()[0]["state"] == "waiting"
    copy.clock.at += timedelta(days=3, seconds=1)  # type: ignore[attr-defined]
    copy.run(5, lambda: copy.items()[0]["state"] == "failed")
    assert [kind for kind, _ in copy.told()] == ["undelivered"]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """(file to trust, context of a server that shows itself as 127.0.0.1)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    at = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(at - timedelta(days=1)).not_valid_after(at + timedelta(days=1)).add_extension(alternative, False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    trust, secret = folder / "trust.pem", folder / "key.pem"
    trust.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*form))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(trust, secret)
    return trust, context


def test_a_password_goes_over_tls_to_who_proves_himself(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust, context = certificate(tmp_path)
    logins: list[tuple[bytes, bytes]] = []

    def login(_server: Any, session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert session.ssl is not None
        logins.append((data.login, data.password))
        return AuthResult(success=True)

    secrets = copy.node.secrets
    secrets.mkdir(parents=True, exist_ok=True)
    (secrets / "mail").write_text("s3cret\n")
    with mailing(tls_context=context, require_starttls=True, authenticator=login, auth_required=True) as box:
        posted(copy, box.port, LETTER, tls="starttls", user="sanji")
        copy.run(5, lambda: copy.items()[0]["tries"] == 1)
        assert copy.items()[0]["last_error"] == "SSLCertVerificationError" and logins == [], "an unknown server gets no password"
        monkeypatch.setenv("SSL_CERT_FILE", str(trust))
        copy.clock.at += timedelta(seconds=7)  # type: ignore[attr-defined]
        copy.run(10, lambda: len(box.mails) == 1)
    assert logins == [(b"sanji", b"s3cret")] and len(box.mails) == 1
    with pytest.raises(ValueError, match="without TLS"):
        Mail(host="x", sender="a@b", tls="none", user="u")


# Over HTTP ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(engine: Engine, tmp_path: Path) -> Iterator[Served]:
    with served.node(tmp_path, engine, LEAF) as found:
        yield found


def named(node: Served, name: str, *roles: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {node.token(sub=name, sanji=[{'role': r, 'node': ROOT} for r in roles])}"}


def test_a_webhook_from_registration_to_replay(node: Served, receiver: Receiver) -> None:
    client, boss = node.client, named(node, "boss", "administrator")
    wanted = {"url": receiver.url, "events": ["commented"], "note": "热线", "categories": ["E01"]}
    made = client.post(f"{API}/webhooks", json=wanted, headers=boss)
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store", made.text
    hook, secret = made.json(), made.json()["secret"]
    assert "secret" not in client.get(f"{API}/webhooks", headers=boss).json()[0]
    assert client.post(f"{API}/webhooks/{hook['id']}/trial", headers=boss).json() == {"queued": 1}
    receiver.wait(1)
    place = {"lon": 87.62, "lat": 43.72}
    case = client.post(f"{API}/cases", json={"category": "E0101", **place}, headers=named(node, "e", "collector")).json()["id"]
    other = client.post(f"{API}/cases", json={"category": "P0101", **place}, headers=named(node, "e", "collector")).json()["id"]
    for one in (case, other):
        sent = client.post(f"{API}/cases/{one}/comments", json={"text": "一个秘密"}, headers=named(node, "a", "acceptor"))
        assert sent.status_code == 201
    receiver.wait(2)
    time.sleep(1)
    assert len(receiver.came) == 2, "only of the categories that it wants"
    _, headers, body = receiver.came[1]
    event = Webhook(secret).verify(body, headers)
    assert (event["type"], event["subject"]) == ("cn.sanji.notice.commented.v1", case)
    assert event["data"]["visibility"] == "internal" and "秘密".encode() not in body
    items = client.get(f"{API}/outbox?state=sent", headers=boss).json()["items"]
    assert [i["id"] for i in items] == receiver.ids()[::-1]
    assert client.post(f"{API}/outbox/{items[0]['id']}/replay", headers=boss).json()["state"] == "waiting"
    receiver.wait(3)
    body_ = {"since": "2026-01-01T00:00:00+08:00", "state": "sent", "target": f"webhook:{hook['id']}"}
    until = time.monotonic() + 10
    while client.get(f"{API}/outbox?state=waiting", headers=boss).json()["items"] and time.monotonic() < until:
        time.sleep(0.1)
    assert client.post(f"{API}/outbox/replays", json=body_, headers=boss).json() == {"queued": 2}
    receiver.wait(5)
    assert len(set(receiver.ids())) == 2
    fresh = client.post(f"{API}/webhooks/{hook['id']}/secret", json={"keep_hours": 0}, headers=boss).json()
    assert fresh["secret"] != secret
    off = client.put(f"{API}/webhooks/{hook['id']}", json=wanted | {"enabled": False}, headers=boss)
    assert off.json()["enabled"] is False
    assert client.delete(f"{API}/webhooks/{hook['id']}", headers=boss).json() == {"removed": hook["id"]}
    assert client.get(f"{API}/webhooks", headers=boss).json() == []
    refused(client.post(f"{API}/webhooks/{hook['id']}/trial", headers=boss), 404)
    assert "sanji_outbox" in client.get("/metrics").text


def test_what_is_no_webhook(node: Served) -> None:
    client, boss = node.client, named(node, "boss", "administrator")
    strange = (
        "https://10.0.0.1/x", "http://169.254.169.254/latest", "https://[fd00::1]/", "http://8.8.8.8/", "ftp://a.example/",
        "https://user:pw@127.0.0.1/", "https://nowhere.invalid/", "http://[::ffff:10.0.0.1]/", "http://0x0a000001/",
    )  # fmt: skip
    for url in strange:
        refused(client.post(f"{API}/webhooks", json={"url": url, "events": ["reached"]}, headers=boss), 422, "/url")
    good = {"url": "http://127.0.0.1:9/", "events": ["reached"]}
    for wrong in ({"events": []}, {"events": ["flew"]}, {"events": ["reached"], "secret": "x"}, {"note": "<b>x</b>"}):
        refused(client.post(f"{API}/webhooks", json=good | wrong, headers=boss), 422)
    refused(client.post(f"{API}/webhooks", json=good, headers=named(node, "x", "leader")), 403)
    refused(client.post(f"{API}/outbox/msg_x/replay", headers=boss), 404)
    refused(client.get(f"{API}/outbox?stat=sent", headers=boss), 422)
    refused(client.get(f"{API}/outbox", headers=named(node, "x", "leader")), 403)
    refused(client.post(f"{API}/outbox/replays", json={"since": "yesterday"}, headers=boss), 422, "/since")


def test_networks_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError):
        Outgoing(networks=("somewhere",))


def test_the_topology_says_which_mail_server_and_what_may_be_called(tmp_path: Path) -> None:
    """Said once for all nodes, or for one; a node without it sends no mail and calls inside nothing but its own machine."""
    names = 'names = { zh = "某", en = "some" }'
    mail = 'mail = { host = "mail.city.example", sender = "sanji@city.example", user = "sanji" }'
    (tmp_path / "t.toml").write_text(
        f'pack = "packs/xinjiang"\n{mail}\nnodes = [\n'
        f'  {{ code = "65", port = 9100, {names} }},\n'
        f'  {{ code = "6501", parent = "65", port = 9110, outgoing = {{ networks = ["10.0.0.0/8"] }}, {names} }},\n]\n'
    )
    topology = load(tmp_path / "t.toml")
    found = {code: load_node(render(topology, code, tmp_path)) for code in ("65", "6501")}
    assert [n.mail.host if n.mail else None for n in found.values()] == ["mail.city.example"] * 2
    assert found["65"].outgoing == Outgoing() and found["6501"].outgoing.networks == ("10.0.0.0/8",)
    assert served.settings(tmp_path / "demo").mail is None
    (tmp_path / "t.toml").write_text((tmp_path / "t.toml").read_text().replace('user = "sanji"', 'user = "u", tls = "none"'))
    with pytest.raises(Invalid):
        load(tmp_path / "t.toml")
