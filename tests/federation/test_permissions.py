"""What a child may say and hear at its parent's broker, tried with its own credentials on brokers that run as rendered."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from deploy.render import render
from shared import broker
from shared.errors import Invalid
from tests.brokers import Brokers, brokers, until

PARENT, CHILD, OTHER = "650000", "650100", "650200"
TREE = ((PARENT, None), (CHILD, PARENT), (OTHER, PARENT))
FORBIDDEN = (
    f"dlv.{OTHER}.x", f"rpc.{OTHER}.range", f"rpc.{PARENT}.heads", f"{PARENT}.case", f"{CHILD}.case", f"{OTHER}.case",
    "$JS.API.INFO", f"$JS.API.STREAM.PURGE.EV_{PARENT}", f"$JS.{PARENT}.API.STREAM.DELETE.EV_{PARENT}",
    f"$JS.{OTHER}.API.STREAM.PURGE.EV_{OTHER}", f"$JS.FC.EV_{OTHER}.x", "$SYS.REQ.SERVER.PING", "$SYS.ACCOUNT.NODE.CONNECT", "x",
)  # fmt: skip
"""Subjects on which a child has nothing to say to its parent."""


class Listener:
    """Hears everything that is said in one account, by subject."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def on(self, client: Any, subject: str = ">") -> Listener:
        async def note(message: Any) -> None:
            self.heard.append(message.subject)

        await client.subscribe(subject, cb=note)
        await client.flush()
        return self

    def strange(self) -> set[str]:
        """What was heard without the node's own questions to its streams and their answers."""
        return {s for s in self.heard if not s.startswith(("_INBOX.", "$JS.API.", "$JS.EVENT."))}


async def child(at: Brokers, **more: Any) -> Any:
    """A client with the credentials of the child's link, at the parent."""
    return await at.connect(PARENT, f"leaf_{CHILD}", (CHILD, "leaf"), **more)


def test_a_child_can_say_nothing_but_its_own_deliveries(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        refused: list[str] = []

        async def note(error: Exception) -> None:
            refused.append(str(error))

        node, system = await at.connect(PARENT), await at.connect(PARENT, "sys")
        listening, above = await Listener().on(node), await Listener().on(system, "$SYS.REQ.>")
        speaker = await child(at, error_cb=note)
        for subject in (*FORBIDDEN, f"dlv.{CHILD}.x"):
            await speaker.publish(subject, b"{}")
        await speaker.flush()
        assert await until(lambda: _true(f"dlv.{CHILD}.x" in listening.heard)), "its own it may deliver"
        assert listening.heard == [f"dlv.{CHILD}.x"] and above.heard == []
        # Of each subject the broker must have named a violation; the client tells it in lower case, the own domain goes by none.
        named = {found[1] for e in refused if (found := re.search(r'publish to "(.+)"', e, re.I))}
        assert named == {s.replace(f"$JS.{PARENT}.", "$JS.").lower() for s in FORBIDDEN}

    with brokers(tmp_path, TREE[0], TREE[1], TREE[2], start=False) as at:
        at.start(PARENT)
        asyncio.run(play(at))


def test_a_child_hears_nothing_but_what_it_is_asked(tmp_path: Path) -> None:
    async def play(at: Brokers) -> None:
        node = await at.connect(PARENT)
        heard, asked = Listener(), Listener()
        wide = (">", "*.>", "rpc.>", f"rpc.{OTHER}.>", f"dlv.{OTHER}.>", f"{PARENT}.>", "$JS.API.>", "$SYS.>", "_INBOX.>")
        for subject in wide:
            eavesdropper = await child(at, error_cb=_deaf)
            await heard.on(eavesdropper, subject)
        honest = await child(at, error_cb=_deaf)
        await asked.on(honest, f"rpc.{CHILD}.>")
        for subject in (f"rpc.{OTHER}.range", f"{PARENT}.case", "x", f"$JS.{OTHER}.API.INFO", "_INBOX.abc", f"rpc.{CHILD}.range"):
            await node.publish(subject, b"secret")
        await node.flush()
        assert await until(lambda: _true(asked.heard == [f"rpc.{CHILD}.range"]))
        assert heard.heard == []

    with brokers(tmp_path, *TREE, start=False) as at:
        at.start(PARENT)
        asyncio.run(play(at))


def test_a_hostile_childs_broker_reaches_no_further_than_a_client_would(tmp_path: Path) -> None:
    """The child's machine is the child's: it may publish whatever it likes there, and only its own deliveries cross the link."""

    async def play(at: Brokers) -> None:
        hostile, other, node = await at.connect(CHILD), await at.connect(OTHER), await at.connect(PARENT)
        listening, beside = await Listener().on(node), await Listener().on(other)
        assert await until(lambda: _links(at, PARENT, 2))
        for subject in FORBIDDEN:
            await hostile.publish(subject, b"{}")
        await hostile.publish(f"dlv.{CHILD}.x", b"{}")
        assert await until(lambda: _true(f"dlv.{CHILD}.x" in listening.heard))
        assert listening.strange() == {f"dlv.{CHILD}.x"} and beside.strange() == set()

    with brokers(tmp_path, *TREE) as at:
        asyncio.run(play(at))


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_password_gets_no_link(tmp_path: Path, right: bool) -> None:
    async def play(at: Brokers) -> None:
        if right:
            assert await until(lambda: _links(at, PARENT, 1))
            return
        assert await until(lambda: _true("authentication error" in (tmp_path / PARENT / "broker.log").read_text()))
        assert not await until(lambda: _links(at, PARENT, 1), 2)
        with pytest.raises(nats.errors.Error):
            await at.connect(PARENT, f"leaf_{CHILD}", (OTHER, "leaf"))

    with brokers(tmp_path, *TREE, start=False) as at:
        conf = tmp_path / CHILD / "broker.conf"
        wrong = re.sub(rf"(leaf_{CHILD}):[^@]+@", r"\1:guessed@", conf.read_text())
        assert wrong != conf.read_text()
        conf.write_text(conf.read_text() if right else wrong)
        at.start(PARENT)
        at.start(CHILD)
        asyncio.run(play(at))


def test_everything_listens_on_loopback_only(tmp_path: Path) -> None:
    with brokers(tmp_path, *TREE, start=False) as at:
        at.start(PARENT)
        ports = at.topology.node(PARENT).broker_ports
        rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
        listening = {(a, int(p, 16)) for a, p in (row[1].split(":") for row in rows if row[3] == "0A")}
        loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
        assert {(a, p) for a, p in listening if p in ports} == {(loopback, p) for p in ports}


def test_a_monstrous_message_of_one_child_stops_nobody_else(tmp_path: Path) -> None:
    """A message as large as a broker takes grows on its way up by its subject; the next link would be closed over it for ever."""
    chain = ((PARENT, None), (CHILD, PARENT), ("650102", CHILD), ("650103", CHILD))

    async def play(at: Brokers) -> None:
        clients = {code: await at.connect(code) for code, _ in chain}
        for code, _ in chain[2:]:
            await broker.ensure_stream(clients[code], code, [], depth=3)
        # A hostile node takes as much as its broker lets it.
        config = (await broker.ask(clients["650102"], "STREAM.INFO.EV_650102", {}))["config"]
        await broker.ask(clients["650102"], "STREAM.UPDATE.EV_650102", config | {"max_msg_size": -1})
        await at.linked(CHILD, ["650102", "650103"], depth=2)
        await at.linked(PARENT, [CHILD], depth=1)
        most, room = broker.LARGEST - 2 * broker.GROWTH, clients["650102"].max_payload
        for size in (most - 300, most - 200, most - 100, most, room - 200, room):
            await clients["650102"].jetstream().publish("650102.case", b"x" * size)
        # Not at once: they must have had the time to do their worst.
        await asyncio.sleep(1.5)
        await clients["650103"].jetstream().publish("650103.case", b"honest")

        async def there() -> bool:
            subject = f"{CHILD}.650103.650103.case"
            found = await broker.ask(clients[PARENT], f"STREAM.INFO.EV_{PARENT}", {"subjects_filter": subject})
            return subject in (found["state"].get("subjects") or {})

        assert await until(there, 10)
        assert "Maximum Payload" not in (tmp_path / CHILD / "broker.log").read_text()

    with brokers(tmp_path, *chain) as at:
        asyncio.run(play(at))


def test_passwords_are_their_owners_alone_and_never_empty(tmp_path: Path) -> None:
    """A render that was killed must leave no empty password behind, and a broker must never read half a file."""
    with brokers(tmp_path, *TREE, start=False) as at:
        files = [p for name in ("broker.conf", "node.json", "secrets/node", "secrets/leaf") for p in tmp_path.glob(f"*/{name}")]
        assert len(files) == 3 * len(TREE) + 2 and {oct(p.stat().st_mode & 0o777) for p in files} == {"0o600"}
        conf, password = tmp_path / PARENT / "broker.conf", tmp_path / CHILD / "secrets" / "leaf"
        before = conf.read_bytes(), conf.stat().st_ino
        render(at.topology, PARENT, tmp_path)
        assert conf.read_bytes() == before[0] and conf.stat().st_ino != before[1], "written beside and put in its place"
        password.write_text("")
        with pytest.raises(Invalid, match="is empty"):
            render(at.topology, PARENT, tmp_path)


async def _true(answer: bool) -> bool:
    return answer


async def _deaf(_: Exception) -> None:
    """Refusals are what is tested; the client would print each."""


async def _links(at: Brokers, code: str, count: int) -> bool:
    """Whether the broker of `code` has so many children linked."""
    answer = await asyncio.to_thread(httpx.get, f"{at.node(code).broker.monitor}/leafz")
    return bool(answer.json()["leafnodes"] == count)
