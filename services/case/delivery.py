"""Sends what waits in the outbox: mails through the node's mail server, calls to webhooks; to one target never two at once.

One item is claimed, sent, and ended in the transaction that claims the next. A process that dies in between leaves its lease to
run out, after which the item is sent again under the same id: nothing is lost, and a receiver drops what it has.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from sqlalchemy import Engine

from services.case import book, notices, outbox, reach, webhooks
from services.case.letters import letter
from services.case.outbox import Item
from services.case.webhooks import Signer
from services.case.words import Names, Place, Speech
from shared.database import Tx, reading
from shared.errors import NotFound
from shared.settings import Mail, Node
from shared.telemetry import Gauge
from shared.writer import Writer

T = TypeVar("T")
PAUSE, AT_ONCE, ROUND = 0.5, 8, 100
"""Seconds between two looks, targets at a time, items of one target before others have their turn."""
SLOWEST = 45.0
"""Seconds for one mail; less than a lease."""


@dataclass(frozen=True)
class Outcome:
    """What came of sending one item. `final`: trying again cannot help; `gone`: the endpoint wants no more."""

    error: str = ""
    final: bool = False
    gone: bool = False
    wait: float = 0


@dataclass
class Delivery:
    """The loop of one process; any number of them may work on one database."""

    engine: Engine
    writer: Writer
    node: Callable[[], Node]
    around: Place
    names: Names
    signer: Signer
    holder: str = field(default_factory=lambda: uuid4().hex)
    _sending: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def turn(self) -> None:
        """Look what is due, begin with targets that nobody here works on, wait a moment. Raises what a target's work raised."""
        for target in await asyncio.to_thread(self._due):
            if target not in self._sending and len(self._sending) < AT_ONCE:
                self._sending[target] = asyncio.create_task(self._serve(target))
        await (asyncio.wait(self._sending.values(), timeout=PAUSE) if self._sending else asyncio.sleep(PAUSE))
        ended = [target for target, task in self._sending.items() if task.done()]
        for task in [self._sending.pop(target) for target in ended]:
            task.result()

    def _due(self) -> list[str]:
        with reading(self.engine) as connection:
            return outbox.due(connection, self.writer.now(), AT_ONCE * 4)

    async def stop(self) -> None:
        """End what is being sent and give it back, so that another process need not wait for the leases."""
        working, self._sending = list(self._sending.values()), {}
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await self._write(lambda tx: outbox.release(tx, self.holder))

    async def _serve(self, target: str) -> None:
        """Send what waits for one target, in order, until nothing does or it does not take it."""
        item = await self._write(lambda tx: self._claim(tx, target))
        for _ in range(ROUND):
            if item is None:
                return
            outcome = await self._send(item)
            item = await self._write(self._ending(item, outcome))
        if item is not None:
            await self._write(lambda tx: outbox.release(tx, self.holder))

    def _claim(self, tx: Tx, target: str) -> Item | None:
        if target.startswith("webhook:") and not self._listening(tx, target):
            outbox.abandon(tx, target, "switched off")
            return None
        return outbox.claim(tx, target, self.holder)

    def _listening(self, tx: Tx, target: str) -> bool:
        try:
            return bool(webhooks.one(tx.connection, target.partition(":")[2])["enabled"])
        except NotFound:
            return False

    def _ending(self, item: Item, outcome: Outcome) -> Callable[[Tx], Item | None]:
        """The use case that notes what came of an item, and after a success claims the next one."""

        def work(tx: Tx) -> Item | None:
            if not outcome.error:
                outbox.sent(tx, item, self.holder)
                if item.kind == "webhook":
                    webhooks.took(tx, item.target.partition(":")[2])
                return self._claim(tx, item.target)
            given_up = outbox.put_off(
                tx, item, self.holder, outcome.error, self.patience, final=outcome.final, wait=outcome.wait
            )  # fmt: skip
            off = item.kind == "webhook" and self._failed(tx, item, outcome)
            if given_up and not off:
                self._warn(tx, item, outcome)
            return None

        return work

    def _failed(self, tx: Tx, item: Item, outcome: Outcome) -> bool:
        """Note a failure at the endpoint; answers whether that switched it off, of which the administrators are told."""
        webhook_id = item.target.partition(":")[2]
        try:
            off = webhooks.failed(tx, webhook_id, outcome.error, self.patience, gone=outcome.gone)
        except NotFound:
            return False
        if off:
            book.changed(tx.connection)
            count = outbox.abandon(tx, item.target, "switched off")
            detail = {"webhook": webhook_id, "error": outcome.error, "given_up": count}
            notices.put(tx, "role:administrator", "webhook_off", detail)
        return off

    def _warn(self, tx: Tx, item: Item, outcome: Outcome) -> None:
        """Tell the administrators of an item that was given up; of one target once a day."""
        if outbox.failed_since(tx.connection, item.target, tx.now() - timedelta(days=1)) <= 1:
            notices.put(tx, "role:administrator", "undelivered", {"target": item.target, "item": item.id, "error": outcome.error})

    @property
    def patience(self) -> timedelta:
        return timedelta(days=self.node().outgoing.patience_days)

    async def _send(self, item: Item) -> Outcome:
        return await (self._call(item) if item.kind == "webhook" else self._mail(item))

    async def _call(self, item: Item) -> Outcome:
        """Call a webhook with the item as a CloudEvent."""
        row = await asyncio.to_thread(self._read, lambda connection: webhooks.one(connection, item.target.partition(":")[2]))
        source = f"/{self.node().code}/case"
        fixed = {"specversion": "1.0", "id": item.id, "source": source, "datacontenttype": "application/json"}
        body = orjson.dumps(fixed | item.payload, option=orjson.OPT_SORT_KEYS)
        headers = self.signer.headers(row, item.id, self.writer.now(), body)
        answer = await reach.post(row["url"], body, headers, self.node().outgoing.networks)
        return Outcome() if answer.well else Outcome(answer.error, gone=answer.status == 410, wait=answer.wait)

    async def _mail(self, item: Item) -> Outcome:
        """Write the mail and hand it to the node's mail server."""
        mail = self.node().mail
        if mail is None:
            return Outcome("no mail server is set")
        account = item.target.partition(":")[2]

        def written(connection: Any) -> EmailMessage | None:
            # Looked up now and not kept in the item: an address that was taken away gets nothing any more.
            address = book.address(connection, account)
            if address is None:
                return None
            speech = Speech(self.around, self.names, connection, address.language)
            return letter(item.payload, speech, item=item.id, at=item.created_at, sender=mail.sender, receiver=address.address)

        message = await asyncio.to_thread(self._read, written)
        if message is None:
            return Outcome("no address any more", final=True)
        try:
            return await asyncio.wait_for(asyncio.to_thread(hand_over, mail, self.node().secrets, message), SLOWEST)
        except TimeoutError:
            return Outcome("no answer in time")

    def _read(self, query: Callable[[Any], T]) -> T:
        with reading(self.engine) as connection:
            return query(connection)

    async def _write(self, work: Callable[[Tx], T]) -> T:
        return await asyncio.wrap_future(self.writer.submit(work))

    def measure(self) -> list[Gauge]:
        with reading(self.engine) as connection:
            return [("sanji_outbox", "Mails and calls by state", "state", outbox.counts(connection))]


def hand_over(mail: Mail, secrets: Path, message: EmailMessage) -> Outcome:
    """Give a mail to the server. What the server said is not kept but for its number."""
    try:
        with _session(mail) as session:
            if mail.user:
                session.login(mail.user, (secrets / mail.password_file).read_text().strip())
            session.send_message(message)
        return Outcome()
    except smtplib.SMTPRecipientsRefused as error:
        code = next(iter(error.recipients.values()))[0]
        return Outcome(f"SMTP {code}", final=500 <= code < 600)
    except smtplib.SMTPResponseException as error:
        return Outcome(f"SMTP {error.smtp_code}")
    except (smtplib.SMTPException, ssl.SSLError, OSError) as error:
        return Outcome(type(error).__name__)


def _session(mail: Mail) -> smtplib.SMTP:
    if mail.tls == "tls":
        return smtplib.SMTP_SSL(mail.host, mail.port, timeout=reach.SECONDS, context=ssl.create_default_context())
    session = smtplib.SMTP(mail.host, mail.port, timeout=reach.SECONDS)
    try:
        if mail.tls == "starttls":
            session.starttls(context=ssl.create_default_context())
    except Exception:
        session.close()
        raise
    return session
