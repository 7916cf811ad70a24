"""Cleans photos: what comes in is looked at by its head, decoded in a child process with hard limits, and written anew.

The parent never decodes anything. A new process for each photo costs a tenth of a second and shares nothing with the photo before
it: a decoder that is taken over by a crafted file has one photo, no network address, no secret and a few seconds.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from shared.errors import Busy, Invalid

MAX_BYTES = 12 * 1024 * 1024
MAX_PIXELS, MAX_SIDE = 50_000_000, 12_000
PICTURE, THUMB = 2048, 320
"""Longer side in pixels of what is kept and of its thumbnail."""
MEMORY, SECONDS, PATIENCE = 1000 * 1024 * 1024, 10, 20.0
"""Of the child: bytes of address space, seconds of processor, seconds of waiting."""
ANSWER = 8 * 1024 * 1024
FIELD = "/file"
SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK

REASONS = {
    "pixels": f"a photo has at most {MAX_SIDE} pixels on a side and {MAX_PIXELS // 1_000_000} million in all",
    "animated": "an animation is no photo: send one picture",
    "memory": "the photo needs more memory to decode than a photo may: send it smaller, or as JPEG",
    "truncated": "the photo is cut off: it did not arrive whole",
    "unreadable": "the photo cannot be decoded",
    "limits": "the photo could not be decoded within the time and memory that a photo may take",
}
"""What a code of the child means, in words."""


class Head(NamedTuple):
    """What the first bytes of a photo say of it."""

    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Cleaned:
    """A new picture and its thumbnail, both JPEG in sRGB without any data beside the pixels; sizes in pixels."""

    image: bytes
    thumb: bytes
    width: int
    height: int


# The head -----------------------------------------------------------------------------------------------------------------


def head(data: bytes) -> Head:
    """Format and size by the first bytes; name and media type that the sender gave do not count. Raises Invalid."""
    if len(data) > MAX_BYTES:
        raise Invalid(f"a photo has at most {MAX_BYTES // 1024 // 1024} MB", field=FIELD)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 33:
        found = Head("PNG", *struct.unpack(">II", data[16:24]))
    elif data[:3] == b"\xff\xd8\xff":
        found = _jpeg(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        found = _webp(data)
    else:
        raise Invalid(f"a photo is a JPEG, PNG or WebP file; {_other(data)}", field=FIELD)
    if not (0 < found.width <= MAX_SIDE and 0 < found.height <= MAX_SIDE and found.width * found.height <= MAX_PIXELS):
        raise Invalid(f"{REASONS['pixels']}; this one has {found.width} x {found.height}", field=FIELD)
    return found


def _jpeg(data: bytes) -> Head:
    for marker, start, _ in segments(data):
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC) and start + 5 <= len(data):
            height, width = struct.unpack(">HH", data[start + 1 : start + 5])
            return Head("JPEG", width, height)
    raise Invalid(REASONS["truncated"], field=FIELD)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment of a JPEG before its pixels, without the marker and the length themselves."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if length < 2:
            return
        yield marker, at + 4, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + length


def _webp(data: bytes) -> Head:
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return Head("WEBP", 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
    if kind == b"VP8L" and body[0] == 0x2F:
        packed = int.from_bytes(body[1:5], "little")
        return Head("WEBP", 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", body[6:10])
        return Head("WEBP", width & 0x3FFF, height & 0x3FFF)
    raise Invalid(REASONS["unreadable"], field=FIELD)


OTHERS = (
    (b"GIF8", "this is GIF"), (b"%PDF", "this is PDF"), (b"BM", "this is BMP"), (b"II*\0", "this is TIFF"),
    (b"MM\0*", "this is TIFF"), (b"PK", "this is an archive or an office document"), (b"\x1f\x8b", "this is an archive"),
)  # fmt: skip


def _other(data: bytes) -> str:
    """What it is instead, as far as its first bytes tell."""
    if not data:
        return "this is empty"
    if data[4:8] == b"ftyp":
        if data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
            return "this is HEIC, which cannot be read here: let the camera take photos as JPEG ('most compatible')"
        return "this is AVIF" if data[8:12] in (b"avif", b"avis") else "this is a film"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return "this is SVG, HTML or another text with markup"
    return next((words for start, words in OTHERS if data.startswith(start)), "this is something else")


# The child ----------------------------------------------------------------------------------------------------------------


def clean(data: bytes) -> Cleaned:
    """Decode a photo in a process of its own and write it anew. Waits; raises Invalid naming /file, and Busy."""
    head(data)
    said, rest = _ask(data)
    if "refused" in said:
        raise Invalid(REASONS.get(str(said["refused"]), REASONS["unreadable"]), field=FIELD)
    try:
        image, thumb = rest[: said["image"]], rest[said["image"] : said["image"] + said["thumb"]]
        found = Cleaned(image, thumb, said["width"], said["height"])
        good = _is_plain(image) and _is_plain(thumb) and _jpeg(image)[1:] == (found.width, found.height)
    except (KeyError, TypeError):
        good = False
    if not good or max(found.width, found.height) > PICTURE:
        # Whatever took the child over, nothing but a picture without other data gets past here.
        raise Invalid(REASONS["unreadable"], field=FIELD)
    return found


def _is_plain(picture: bytes) -> bool:
    """Whether it is a JPEG that holds tables and pixels and no data of applications, nor a comment."""
    markers = [marker for marker, _, _ in segments(picture)]
    applications = [m for m in markers if m in range(0xE1, 0xF0) or m == 0xFE]
    return picture[:3] == b"\xff\xd8\xff" and picture[-2:] == b"\xff\xd9" and markers[-1:] == [0xDA] and not applications


def _ask(data: bytes) -> tuple[dict[str, Any], bytes]:
    """(what the child said, the bytes after it). A child that dies or is too slow said that the limits were reached."""
    bounds = (MEMORY, ANSWER, SECONDS, MAX_PIXELS, MAX_SIDE, PICTURE, THUMB)
    command = [sys.executable, "-I", "-m", "services.case.pixels", *map(str, bounds)]
    with _memory("photo", data) as given, _memory("answer", bytes(0)) as told:
        os.truncate(told, ANSWER)
        # Of a fixed size, so that a child that writes without end fills no memory.
        fcntl.fcntl(told, fcntl.F_ADD_SEALS, SEALS)
        try:
            child = subprocess.Popen(command, stdin=given, stdout=told, stderr=subprocess.DEVNULL, env={}, cwd="/")
        except OSError as error:
            raise Busy("no process can be started for a photo now", retry_after=5) from error
        try:
            code = child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        return _read(told) if code == 0 else ({"refused": "limits"}, b"")


def _read(told: int) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(os.pread(told, 4, 0), "big")
    try:
        said = orjson.loads(os.pread(told, min(size, 1000), 4))
        length = said.get("image", 0) + said.get("thumb", 0)
        return said, os.pread(told, min(length, ANSWER), 4 + size)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError, OSError):
        return {"refused": "unreadable"}, b""


@contextmanager
def _memory(name: str, content: bytes) -> Iterator[int]:
    """A file that lies in memory only and has no path: neither a photo nor what becomes of it ever touches a disk here."""
    handle = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


class Cleaners:
    """Cleans photos in turn, `width` at a time, on threads of its own: a burst of photos keeps no other request from a thread."""

    def __init__(self, width: int = 2, bound: int = 32) -> None:
        self._threads = ThreadPoolExecutor(width, "photos")
        self._room = threading.BoundedSemaphore(bound)

    def submit(self, data: bytes) -> Future[Cleaned]:
        """Raises Busy where too many photos wait already."""
        if not self._room.acquire(blocking=False):
            raise Busy("more photos wait than this node can take", retry_after=2)
        future = self._threads.submit(clean, data)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """Take no more; what runs is finished by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
