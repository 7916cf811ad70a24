"""Keeps objects such as photos by the hash of their content, outside the database: in a folder or in an S3-compatible store.

An object is put before the commit of the row that names it, so that no row ever names one that is not there; what no row came to
name is swept up a day later. Nothing is ever changed in place: other content has another name.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from shared.errors import Busy, Invalid, NotFound, SanjiError
from shared.settings import Bucket, Node

DIGEST = 64
"""Hexadecimal digits of a SHA-256, the name of an object."""
UNUSED = timedelta(hours=24)
"""How long an object may wait for the row that names it."""
CHUNK = 500


class Damaged(SanjiError):
    """What the store answers is not what was put there: disk, store or somebody changed it."""

    code = "damaged"


class Listed(NamedTuple):
    """One object of a list: its name and when it was last put, in UTC."""

    digest: str
    at: datetime


class Objects(Protocol):
    """A store of bytes by their SHA-256 in hexadecimal digits. Every method may raise Busy while the store cannot be used."""

    def put(self, data: bytes) -> str:
        """Keep `data` durably and answer its digest; the same again renews its age and mends it where it was damaged."""
        ...

    def get(self, digest: str) -> bytes:
        """Raises NotFound, and Damaged where the content no longer has this digest."""
        ...

    def has(self, digest: str) -> bool: ...

    def delete(self, digest: str) -> None:
        """Forget an object; one that is not there is no error."""
        ...

    def each(self) -> Iterator[Listed]:
        """Every object, in no order; what is put or deleted meanwhile may be among them or not."""
        ...


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_digest(name: str) -> bool:
    return len(name) == DIGEST and all(c in "0123456789abcdef" for c in name)


def proven(data: bytes, digest: str) -> bytes:
    """The data, if it is what its name says. Raises Damaged."""
    if digest_of(data) != digest:
        raise Damaged("the stored object is not the one that was put there")
    return data


class Files:
    """Objects as files of a folder that only its owner reads, two levels deep, so that no folder grows too long to list."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._new = folder, folder / "new"
        for made in (folder.parent, folder, self._new):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._new.iterdir():
            # A process that died while it wrote leaves its file here; one that writes still is never a day old.
            if time.time() - left.stat().st_mtime > UNUSED.total_seconds():
                left.unlink(missing_ok=True)

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        path = self._path(digest)
        with _usable("the folder of objects cannot be written"):
            if not self._renewed(path, data):
                self._write(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        with _usable("the folder of objects cannot be read"):
            try:
                return proven(self._path(digest).read_bytes(), digest)
            except FileNotFoundError:
                raise NotFound("no such object here") from None

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def delete(self, digest: str) -> None:
        with _usable("the folder of objects cannot be written"):
            self._path(digest).unlink(missing_ok=True)

    def each(self) -> Iterator[Listed]:
        for path in self.folder.glob("??/??/*"):
            # One that is deleted between the listing and the look at it.
            with suppress(FileNotFoundError):
                if is_digest(path.name):
                    yield Listed(path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC))

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise Invalid("an object is named by 64 hexadecimal digits", field="/digest")
        return self.folder / digest[:2] / digest[2:4] / digest

    @staticmethod
    def _renewed(path: Path, data: bytes) -> bool:
        """Whether just these bytes lie there already; then their age counts anew."""
        try:
            if path.read_bytes() != data:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _write(self, path: Path, data: bytes) -> None:
        """Under a name of its own first: after a power cut there is the whole file or none."""
        for folder in (path.parent.parent, path.parent):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                _flush(folder.parent)
        fresh = self._new / secrets.token_hex(16)
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        _flush(path.parent)


def _flush(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _usable(what: str) -> Iterator[None]:
    """A disk that is full or gone, or a store that does not answer, is for the caller a time to try again."""
    try:
        yield
    except OSError as error:
        raise Busy(f"{what}: {error.strerror or 'no answer'}", retry_after=10) from error
    except (MinioException, HTTPError) as error:
        code = error.code if isinstance(error, S3Error) else "no answer"
        raise Busy(f"{what}: {code}", retry_after=10) from error


class S3:
    """Objects in a bucket of any store that speaks S3, all under one prefix. The bucket must be there."""

    def __init__(self, client: Minio, bucket: str, prefix: str) -> None:
        self.client, self.bucket, self.prefix = client, bucket, prefix

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        with _usable("the store of objects cannot be written"):
            self.client.put_object(self.bucket, self._name(digest), io.BytesIO(data), len(data))
        return digest

    def get(self, digest: str) -> bytes:
        with _usable("the store of objects cannot be read"):
            try:
                answer = self.client.get_object(self.bucket, self._name(digest))
            except S3Error as error:
                raise self._missing(error) from None
            try:
                return proven(answer.read(), digest)
            finally:
                answer.close()
                answer.release_conn()

    def has(self, digest: str) -> bool:
        with _usable("the store of objects cannot be read"):
            try:
                self.client.stat_object(self.bucket, self._name(digest))
            except S3Error as error:
                if isinstance(self._missing(error), NotFound):
                    return False
                raise
        return True

    def delete(self, digest: str) -> None:
        with _usable("the store of objects cannot be written"):
            self.client.remove_object(self.bucket, self._name(digest))

    def each(self) -> Iterator[Listed]:
        with _usable("the store of objects cannot be read"):
            for found in self.client.list_objects(self.bucket, f"{self.prefix}/", recursive=True):
                name = (found.object_name or "").rpartition("/")[2]
                if is_digest(name) and found.last_modified:
                    yield Listed(name, found.last_modified.astimezone(UTC))

    def _name(self, digest: str) -> str:
        if not is_digest(digest):
            raise Invalid("an object is named by 64 hexadecimal digits", field="/digest")
        return f"{self.prefix}/{digest[:2]}/{digest[2:4]}/{digest}"

    @staticmethod
    def _missing(error: S3Error) -> Exception:
        return NotFound("no such object here") if error.code in ("NoSuchKey", "NoSuchObject") else error


def bucket_client(where: Bucket, folder: Path) -> Minio:
    """A client of the store; its key stands in a file of `folder`. Raises Invalid where that file does not hold one."""
    path = folder / where.key
    try:
        access, secret = path.read_text().split()
    except (OSError, ValueError):
        raise Invalid(f"{path} must hold the access key and the secret key of the store, a line each", field="/objects") from None
    address = urlsplit(where.endpoint)
    # Somebody waits for the answer: a store that is gone must say so in seconds, not after the library's minutes.
    patience = PoolManager(timeout=Timeout(connect=3, read=15), retries=Retry(2, backoff_factor=0.2), maxsize=8)
    return Minio(
        address.netloc, access_key=access, secret_key=secret, secure=address.scheme == "https", region=where.region,
        http_client=patience,
    )  # fmt: skip


def open_objects(node: Node, name: str) -> Objects:
    """The node's store of one kind of objects, such as photos; each kind is swept by itself.

    In a bucket they lie under the node's code, because several nodes may share it and none may sweep up what is another's.
    """
    if isinstance(where := node.objects, Bucket):
        return S3(bucket_client(where, node.secrets), where.bucket, f"{node.code}/{name}")
    return Files((where or node.secrets.parent / "objects") / name)


def sweep(objects: Objects, named: Callable[[Sequence[str]], set[str]], before: datetime) -> int:
    """Delete what was last put before an instant and no row names; answers how many. `named` answers which of some digests are.

    Safe while rows are added: whoever adds one looks after its commit whether its objects are still there, and what was named
    only after we asked is put back here. So one of the two always sees the other.
    """
    gone, waiting = 0, list[str]()
    for digest, at in objects.each():
        if at < before:
            waiting.append(digest)
        if len(waiting) >= CHUNK:
            gone += _drop(objects, named, waiting)
            waiting = []
    return gone + _drop(objects, named, waiting)


def _drop(objects: Objects, named: Callable[[Sequence[str]], set[str]], digests: Sequence[str]) -> int:
    gone = 0
    for digest in sorted(set(digests) - named(digests)):
        data = b""
        with suppress(Damaged, NotFound):
            data = objects.get(digest)
        objects.delete(digest)
        if data and named([digest]):
            objects.put(data)
        else:
            gone += 1
    return gone
