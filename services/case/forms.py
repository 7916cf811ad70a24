"""Reads a form with one file and a few texts, all of it in memory: what a photo held before it was cleaned touches no disk."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from shared.errors import Invalid
from shared.web import MAX_BODY

MAX_PARTS, MAX_TEXT = 20, 4096
BODY = "/body"


class Form(NamedTuple):
    """The bytes of the file, and the texts by their names."""

    file: bytes
    texts: dict[str, str]


class Parser(MultiPartParser):
    """The framework's parser, which would write a file of more than a megabyte to disk and count files and texts apart."""

    spool_max_size = MAX_BODY + 1
    parts, ended = 0, False

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise MultiPartException(f"a form has at most {MAX_PARTS} parts")

    def on_end(self) -> None:
        self.ended = True


async def read(request: Request, texts: Collection[str]) -> Form:
    """A multipart form with one `file` and some of `texts`, each at most once. Raises Invalid naming the part at fault.

    A form that is refused is read to its end and thrown away piece by piece, because many clients hear no answer before that; the
    limits on length and time of a body hold all the while.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Invalid("send a form: multipart/form-data with a part named file", field="/content-type")
    stream = request.stream()
    try:
        parser = Parser(request.headers, stream, max_files=1, max_fields=MAX_PARTS, max_part_size=MAX_TEXT)
        form = await parser.parse()
    except MultiPartException as error:
        async for _ in stream:
            pass
        raise Invalid(f"the form cannot be read: {error.message}", field=BODY) from None
    except ClientDisconnect:
        raise Invalid("the form did not arrive whole", field=BODY) from None
    try:
        if not parser.ended:
            raise Invalid("the form has no end: it did not arrive whole", field=BODY)
        return await _sorted(form.multi_items(), texts)
    finally:
        await form.close()


async def _sorted(items: list[tuple[str, UploadFile | str]], texts: Collection[str]) -> Form:
    found: dict[str, str] = {}
    file: bytes | None = None
    for name, value in items:
        pointer = f"/{name[:40]}"
        if name in found or (name == "file" and file is not None):
            raise Invalid("this part is there twice", field=pointer)
        if name == "file" and not isinstance(value, str):
            file = await value.read()
        elif name in texts and isinstance(value, str):
            found[name] = value
        else:
            raise Invalid(f"no such part; known are: file (a file), {', '.join(sorted(texts))} (texts)", field=pointer)
    if file is None:
        raise Invalid("the form has no part named file with the photo", field="/file")
    return Form(file, found)
