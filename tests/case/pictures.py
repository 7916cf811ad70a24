"""Pictures for tests, made here: marked ones, ones with something hidden beside the pixels, and bombs."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from services.case.images import segments

TOKEN = b"canary-7f3a9c"
GPS, USER_COMMENT, MAKER = 0x8825, 0x9286, 0x010F


def written(picture: Image.Image, form: str = "JPEG", **more: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **more)
    return out.getvalue()


def marked(size: tuple[int, int] = (120, 80)) -> Image.Image:
    """Green, with its upper left corner red and its upper right one blue, so that every turn of it is told apart."""
    picture = Image.new("RGB", size, (0, 160, 0))
    pen, (width, height) = ImageDraw.Draw(picture), size
    pen.rectangle((0, 0, width // 3, height // 3), (220, 0, 0))
    pen.rectangle((width - width // 3, 0, width, height // 3), (0, 0, 220))
    return picture


def png(width: int, height: int, *chunks: tuple[bytes, bytes], lines: bytes | None = None) -> bytes:
    """A PNG of one bit a pixel whose head says this size; as small as such a file can be."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + bytes((width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()]) if lines is None else lines
    body = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), *(chunk(*c) for c in chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*body, chunk(b"IDAT", packed), chunk(b"IEND", b"")])


def icc_swapped() -> bytes:
    """An sRGB profile whose red is blue and whose blue is red, by the names of two entries of its table."""
    whole = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    names = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ", b"rTRC": b"bTRC", b"bTRC": b"rTRC"}
    (count,) = struct.unpack(">I", whole[128:132])
    for entry in range(132, 132 + count * 12, 12):
        name = bytes(whole[entry : entry + 4])
        whole[entry : entry + 4] = names.get(name, name)
    return bytes(whole)


def planted() -> dict[str, bytes]:
    """Photos that hold the token in every place that a format has for more than pixels, and behind its end."""
    exif = Image.Exif()
    exif[MAKER] = TOKEN.decode()
    exif.get_ifd(GPS)[1], exif.get_ifd(GPS)[0x1D] = "N", TOKEN.decode()
    exif.get_ifd(0x8769)[USER_COMMENT] = b"ASCII\0\0\0" + TOKEN
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + TOKEN + b"</x:xmpmeta>"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", TOKEN.decode())
    text.add_text("packed", TOKEN.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    picture, profile = marked(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    jpeg = written(picture, comment=TOKEN, exif=exif.tobytes(), xmp=xmp, icc_profile=profile + TOKEN)
    iptc = b"\xff\xed" + struct.pack(">H", 2 + len(TOKEN)) + TOKEN
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(TOKEN.decode(), TOKEN)
    return {
        "jpeg": jpeg[:2] + iptc + jpeg[2:],
        "jpeg and html": jpeg + b"<script>" + TOKEN + b"</script>",
        "jpeg and zip": jpeg + archive.getvalue(),
        "jpeg that opens like a page": jpeg[:2] + b"\xff\xfe\x00\x40" + (b"*/=1;<html>" + TOKEN).ljust(62) + jpeg[2:],
        "png": written(picture, "PNG", pnginfo=text, exif=exif.tobytes()) + TOKEN,
        "png and php": png(40, 40, (b"tEXt", b"x\0<?php " + TOKEN)) + b"<?php " + TOKEN,
        "webp": written(picture, "WEBP", exif=exif.tobytes(), xmp=xmp, icc_profile=profile + TOKEN) + TOKEN,
    }


def gif_bomb() -> bytes:
    """Ten thousand pictures of the largest size that the format knows, in a few kB."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + frame * 10_000 + b";"


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose head says a size that its pixels do not have."""
    data = bytearray(written(marked()))
    start = next(s for m, s, _ in segments(bytes(data)) if m == 0xC0)
    data[start + 1 : start + 5] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of(width: int, height: int) -> bytes:
    """A WebP with a canvas of this size around small pixels."""
    inner = written(marked(), "WEBP")[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + inner
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


BOMBS: dict[str, Callable[[], bytes]] = {
    "png 30000 x 30000": lambda: png(30_000, 30_000), "png 12001 x 1": lambda: png(12_001, 1),
    "png 10000 x 6000": lambda: png(10_000, 6_000), "png 0 x 5": lambda: png(0, 5), "jpeg": lambda: jpeg_of(65_500, 65_500),
    "jpeg without height": lambda: jpeg_of(120, 0), "webp": lambda: webp_of(16_384, 16_384), "gif": gif_bomb,
}  # fmt: skip
