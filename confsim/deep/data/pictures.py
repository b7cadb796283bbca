"""Decoding of pictures into one array of bytes, such that no pixel is lost or guessed.

What cannot be put into 8-bit grey or RGB exactly as the picture's owner sees it is refused by name:
more than 8 bits per sample, transparent pixels, several frames, other colour spaces. An
orientation mark is applied, as every viewer does. Pillow decodes; what it does not verify (the
checksums of PNG, cut files) is verified here.
"""

import contextlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from confsim.deep.data.limits import Budget, DataError
from confsim.given_files import reason

#: Formats that decode exactly, by Pillow's name, with the suffixes that their files have.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

#: A picture has at most so many pixels, or so many times its bytes where that is more, unless a
#: user's own limit is larger. Photographs have up to 20 pixels in a byte, what is built to exhaust
#: memory has thousands.
MOST_PIXELS = 1 << 24
MOST_PIXELS_PER_BYTE = 100

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258


def decode(
    files: list[tuple[str, bytes]], budget: Budget | None = None
) -> tuple["np.ndarray[Any, Any]", tuple[str, ...]]:
    """Decode pictures of one size into one array; grey ones become colour where any has colour.

    Parameters
    ----------
    files : list of (str, bytes)
        Name for messages, and content. At least one.
    budget : Budget, optional
        Of what the data unpack to.

    Returns
    -------
    images : ndarray of uint8
        (n, height, width, 1 or 3).
    turned : tuple of str
        Names of pictures whose orientation mark was applied.
    """
    budget = budget or Budget()
    decoded: np.ndarray[Any, Any] | None = None
    turned: list[str] = []
    with _silent():
        for row, (name, content) in enumerate(files):
            picture, mark = _oriented(name, content, budget)
            if mark:
                turned.append(name)
            if decoded is None:
                budget.unpack(picture.nbytes * len(files), name)
                decoded = np.empty((len(files), *picture.shape), np.uint8)
            if picture.shape[:2] != decoded.shape[1:3]:
                raise DataError(
                    f"images must have one size, but {name} is {_size(picture.shape)} and "
                    f"{files[0][0]} is {_size(decoded.shape[1:])}"
                )
            if picture.shape[2] > decoded.shape[3]:
                budget.unpack(2 * decoded.nbytes, name)
                decoded = np.repeat(decoded, 3, axis=3)
            decoded[row] = picture
    assert decoded is not None
    return decoded, tuple(turned)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Pillow from talking about files that are read all the same, or refused by name."""
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def picture(name: str, content: bytes) -> "np.ndarray[Any, Any]":
    """Decode one picture: (height, width, 1 or 3) uint8."""
    pixels: np.ndarray[Any, Any] = decode([(name, content)])[0][0]
    return pixels


def _oriented(name: str, content: bytes, budget: Budget) -> tuple["np.ndarray[Any, Any]", bool]:
    """Return the pixels, and whether an orientation mark was applied."""
    if not content:
        raise DataError(f"{name} is empty")
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError("reading image files needs Pillow: pip install pillow") from None
    try:
        if content[:8] == b"\x89PNG\r\n\x1a\n":
            _check_png(name, content)
        if content[8:12] == b"WEBP":  # whose reader takes memory for all pixels when it opens
            _check_pixels(name, _webp_size(content), len(content), budget)
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as opened:
            _check_pixels(name, opened.size, len(content), budget)
            _check_depth(name, content, opened)
            if opened.format != "MPO" and getattr(opened, "is_animated", False):
                raise DataError(f"{name} has several frames: only single pictures are read")
            marked = _orientation(opened)
            opened.load()
            pixels = _samples(name, opened)
            # Pillow turns some formats itself while it loads them; then no mark is left. Of others
            # the mark follows the pixels.
            left = _orientation(opened)
            return _turn(pixels, left), max(marked, left) > 1
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"{name} is no readable PNG, JPEG, BMP, GIF, PPM, TIFF or WebP image: it starts as none"
        ) from None
    except Exception as error:  # decoders of foreign bytes may raise anything
        raise DataError(
            f"{name} is no readable PNG, JPEG, BMP, GIF, PPM, TIFF or WebP image: {reason(error)}"
        ) from error


def _orientation(opened: Any) -> int:
    """Return the orientation mark, 1 to 8; 1, where there is none, means as stored."""
    carriers = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
    if opened.format != "TIFF" and not carriers & opened.info.keys():
        return 1
    try:
        mark = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged mark is none, as for every viewer
        return 1
    return mark if mark in range(2, 9) else 1


def _turn(pixels: "np.ndarray[Any, Any]", mark: int) -> "np.ndarray[Any, Any]":
    """Put the first row and column where the mark says that they are (TIFF 6.0, tag 274)."""
    if mark >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if mark in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if mark in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _samples(name: str, opened: Any) -> "np.ndarray[Any, Any]":
    """Return 8-bit grey or RGB; an alpha channel that hides nothing is dropped."""
    mode = opened.mode
    grey = mode in ("1", "L", "LA", "La")
    if mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa"):
        raise DataError(f"{name} has mode {mode}: only 8-bit grey and RGB are read")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in opened.info:
        straight = opened if mode not in ("La", "RGBa") else opened.convert(mode.upper())
        pixels = np.asarray(straight.convert("RGBA"))
        if pixels[..., 3].min() < 255:
            raise DataError(
                f"{name} has transparent pixels (mode {mode}): only opaque grey and RGB are read"
            )
        return pixels[..., :1] if grey else pixels[..., :3]
    pixels = np.asarray(opened.convert("L" if grey else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _check_pixels(name: str, size: tuple[int, int], stored: int, budget: Budget) -> None:
    """Refuse a picture that would take more memory than any real one, before it takes it."""
    most = max(MOST_PIXELS, MOST_PIXELS_PER_BYTE * stored)
    if budget.limit is not None:
        most = max(most, budget.limit // 3)
    if size[0] * size[1] > most:
        raise DataError(
            f"{name} has {size[0]} x {size[1]} pixels in {stored:,} bytes, more than {most:,} "
            "pixels, which looks like a decompression bomb: if it is meant to be so large, give "
            "--unpack-limit (unpack_limit, GiB)"
        )


def _webp_size(content: bytes) -> tuple[int, int]:
    """Return width and height of a WebP file (RFC 9649); none where its first chunk says none."""
    kind, data = content[12:16], content[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<6x2H", data)
    return (width & 0x3FFF, height & 0x3FFF) if kind == b"VP8 " else (0, 0)


def _check_depth(name: str, content: bytes, opened: Any) -> None:
    """Refuse more than 8 bits per sample, which Pillow cuts off without a word in colour."""
    depth = 8
    if opened.format == "PNG":
        depth = content[24]
    elif opened.format == "TIFF":
        depth = max(opened.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    elif opened.format == "PPM":
        depth = 16 if _largest_sample(content) > 255 else 8
    if depth > 8:
        raise DataError(f"{name} has {depth} bits per sample: only 8-bit grey and RGB are read")


def _largest_sample(content: bytes) -> int:
    """Return the largest sample of a PPM or PGM picture, as its header says."""
    if content[:2] in (b"P1", b"P4"):
        return 1
    lines = (line.partition(b"#")[0] for line in content[:4096].splitlines())
    tokens = b" ".join(lines).split()
    return int(tokens[3])


def _check_png(name: str, content: bytes) -> None:
    """Verify the checksum of every chunk, and that the last one is there."""
    at = 8
    while True:
        if at + 12 > len(content):
            raise DataError(f"{name} is no readable PNG image: it is cut off")
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            raise DataError(f"{name} is no readable PNG image: it is cut off")
        if zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise DataError(f"{name} is no readable PNG image: the checksum of {kind!r} is wrong")
        if at == 8 and (kind != b"IHDR" or length != 13):
            raise DataError(f"{name} is no readable PNG image: its header is damaged")
        if kind == b"IEND":
            return
        at = end
