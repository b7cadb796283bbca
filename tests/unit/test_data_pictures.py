"""Pictures: every pixel as its owner sees it, or refused by name."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
from data_makers import chunk, picture, png
from PIL import Image

from confsim.deep.data.limits import Budget, DataError
from confsim.deep.data.pictures import decode
from confsim.deep.data.pictures import picture as read


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def saved(pixels, kind, **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def claims(width, height):
    """Small files of every format, by name, whose headers claim a size that nothing is behind."""
    small = np.zeros((4, 4, 3), np.uint8)
    found = {}
    good = saved(small, "PNG")
    header = struct.pack(">II", width, height) + good[24:29]
    found["x.png"] = good[:8] + chunk(b"IHDR", header) + good[33:]
    good = saved(small, "GIF")
    found["x.gif"] = good[:6] + struct.pack("<HH", width, height) + good[10:]
    good = saved(small, "BMP")
    found["x.bmp"] = good[:18] + struct.pack("<ii", width, height) + good[26:]
    found["x.ppm"] = b"P6 %d %d 255\n" % (width, height) + bytes(12)
    good = saved(small, "JPEG")
    at = good.index(b"\xff\xc0") + 5
    found["x.jpg"] = good[:at] + struct.pack(">HH", height, width) + good[at + 4 :]
    good = bytearray(saved(small, "TIFF"))
    first = int.from_bytes(good[4:8], "little")
    for k in range(int.from_bytes(good[first : first + 2], "little")):
        entry = first + 2 + 12 * k
        tag = int.from_bytes(good[entry : entry + 2], "little")
        if tag in (256, 257):
            claimed = width if tag == 256 else height
            good[entry : entry + 12] = struct.pack("<HHII", tag, 4, 1, claimed)
    found["x.tiff"] = bytes(good)
    good = saved(small, "WEBP")
    lossy = good[:26] + struct.pack("<HH", width, height) + good[30:]
    found["lossy.webp"] = lossy
    good = saved(small, "WEBP", lossless=True)
    bits = (width - 1) | (height - 1) << 14
    found["lossless.webp"] = good[:21] + struct.pack("<I", bits) + good[25:]
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + sides
    found["canvas.webp"] = good[:12] + canvas + good[12:]
    return found


def write_claim(path, content):
    path.write_bytes(content)
    return str(path)


class TestDepth:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_16_bits_are_refused_in_every_colour_type(self, rng, channels):
        pixels = rng.integers(0, 65536, (4, 4, channels))
        with pytest.raises(DataError, match=r"x\.png has 16 bits per sample"):
            read("x.png", png(pixels, depth=16))

    def test_16_bits_in_other_formats(self, rng):
        pixels = rng.integers(0, 65536, (4, 4), dtype=np.uint16)
        with pytest.raises(DataError, match="16 bits per sample"):
            read("x.tif", saved(pixels, "TIFF"))
        for kind, channels in ((b"P5", 1), (b"P6", 3)):
            content = kind + b" 4 4\n# made\n65535\n" + bytes(4 * 4 * channels * 2)
            with pytest.raises(DataError, match="16 bits per sample"):
                read("x.ppm", content)

    def test_8_bits_and_fewer_are_exact(self, rng):
        grey, colour = (
            rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((4, 5), (4, 5, 3))
        )
        for kind in ("PNG", "BMP", "PPM", "TIFF"):
            assert np.array_equal(read("x", saved(grey, kind))[..., 0], grey)
            assert np.array_equal(read("x", saved(colour, kind)), colour)
        black = rng.random((4, 5)) < 0.5
        assert np.array_equal(read("x", saved(black, "PNG"))[..., 0], black * np.uint8(255))


class TestTransparency:
    """The same in every mode: no pixel may be hidden; an alpha channel that hides none goes."""

    @pytest.mark.parametrize("alpha", [255, 254, 0])
    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
    def test_every_mode(self, rng, alpha, mode):
        grey = rng.integers(0, 200, (4, 5), dtype=np.uint8)
        grey[0, 0] = 7
        colour = np.stack([grey] * 3, axis=-1)
        if mode == "RGBA":
            content = png(np.dstack([colour, np.full((4, 5), alpha, np.uint8)]))
        elif mode == "LA":
            content = png(np.dstack([grey, np.full((4, 5), alpha, np.uint8)]))
        elif mode == "P":
            image = Image.fromarray(colour).quantize(255)
            colour = np.asarray(image.convert("RGB"))
            content = saved(image, "PNG", transparency=bytes([alpha]) * 255)
        elif mode == "L":  # one grey value is transparent: one that occurs, or one that does not
            content = png(grey, extra=chunk(b"tRNS", struct.pack(">H", 7 if alpha < 255 else 255)))
        else:
            shade = [7 if alpha < 255 else 255] * 3
            content = png(colour, extra=chunk(b"tRNS", struct.pack(">HHH", *shade)))
        if alpha < 255:
            with pytest.raises(DataError, match=rf"x\.png has transparent pixels \(mode {mode}\)"):
                read("x.png", content)
        else:
            expected = grey[..., None] if mode in ("L", "LA") else colour
            assert np.array_equal(read("x.png", content), expected)

    def test_other_colour_spaces(self, rng):
        with pytest.raises(DataError, match="mode CMYK"):
            read("x.jpg", saved(Image.frombytes("CMYK", (4, 4), rng.bytes(64)), "JPEG"))
        with pytest.raises(DataError, match="32 bits per sample"):
            read("x.tif", saved(rng.random((4, 4)).astype(np.float32), "TIFF"))


class TestOrientation:
    @pytest.mark.parametrize("mark", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_equals_pillow_in_every_format(self, rng, mark, kind, mode):
        shape = (16, 24) if mode == "L" else (16, 24, 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        marks = Image.Exif()
        marks[0x0112] = mark
        content = saved(pixels, kind, exif=marks, **({"lossless": True} if kind == "WEBP" else {}))
        plain = saved(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))
        transposed = {
            1: lambda p: p,
            2: lambda p: p[:, ::-1],
            3: lambda p: p[::-1, ::-1],
            4: lambda p: p[::-1],
            5: lambda p: p.swapaxes(0, 1),
            6: lambda p: p.swapaxes(0, 1)[:, ::-1],
            7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
            8: lambda p: p.swapaxes(0, 1)[::-1],
        }[mark]
        found, turned = decode([("x", content), ("y", content)])
        assert np.array_equal(found[0], transposed(read("x", plain)))
        assert turned == (() if mark == 1 else ("x", "y"))

    def test_a_mark_that_follows_the_pixels(self, rng):
        pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        marks = Image.Exif()
        marks[0x0112] = 6
        end = chunk(b"IEND", b"")
        content = png(pixels).removesuffix(end) + chunk(b"eXIf", marks.tobytes()[6:]) + end
        found, turned = decode([("x", content)])
        assert np.array_equal(found[0], pixels.swapaxes(0, 1)[:, ::-1])
        assert turned == ("x",)

    def test_a_damaged_mark_is_none(self, rng):
        pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        assert np.array_equal(read("x", png(pixels, extra=chunk(b"eXIf", b"MM\0\x2a\xff"))), pixels)


class TestDamage:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP"])
    def test_every_truncation_is_refused_or_the_same(self, rng, kind):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[2:6, 2:6] = 9
        content = saved(pixels, kind)
        expected = read("x", content)
        for size in range(len(content)):
            try:
                found = read("x.img", content[:size])
            except DataError as error:
                assert str(error).startswith("x.img ")  # noqa: PT017 - most, but not all, are refused
            else:
                assert np.array_equal(found, expected), size

    def test_every_bit_of_a_png(self, rng):
        content = png(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        for at in range(len(content)):
            for bit in range(8):
                bad = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
                with pytest.raises(DataError, match=r"^x\.png "):
                    read("x.png", bad)

    def test_a_short_header_names_the_file(self):
        good = png(np.zeros((4, 4), np.uint8))
        body = good[16:19]
        short = good[:8] + chunk(b"IHDR", body) + good[33:]
        assert zlib.crc32(b"IHDR" + body) in struct.unpack(">I", short[19:23])
        with pytest.raises(DataError, match=r"x\.png is no readable PNG image: its header"):
            read("x.png", short)

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
    def test_several_frames(self, rng, kind):
        first, second = (
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(2)
        )
        content = saved(first, kind, save_all=True, append_images=[second])
        with pytest.raises(DataError, match=r"x has several frames"):
            read("x", content)

    def test_other_formats_are_named_as_unreadable(self, rng):
        for content in (b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>"):
            with pytest.raises(
                DataError, match=r"^x\.png is (empty$|no readable PNG, .*: it starts as none$)"
            ):
                read("x.png", content)


class TestBombs:
    def test_pictures_that_unpack_to_too_much(self):
        content = png(np.zeros((2000, 2000), np.uint8))
        assert decode([("x", content)] * 2)[0].shape == (2, 2000, 2000, 1)
        with pytest.raises(DataError, match=r"x makes the data unpack to more than 0\.5 GiB"):
            decode([("x", content)] * 200)
        with pytest.raises(DataError, match="x makes the data unpack"):
            decode([("x", content)] * 2, Budget(7_000_000))

    @pytest.mark.parametrize("side", [5000, 13_000])
    def test_no_picture_takes_memory_before_its_size_is_known(self, side, tmp_path):
        """13,000 x 13,000 is the largest that Pillow takes without being told to."""
        names = [
            write_claim(tmp_path / name, content) for name, content in claims(side, side).items()
        ]
        code = (
            "import resource, sys\n"
            "from confsim.deep.data.pictures import DataError, picture\n"
            "from PIL import Image; Image.init()\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "before = peak()\n"
            "for name in sys.argv[1:]:\n"
            "    try:\n"
            "        print('read', picture(name, open(name, 'rb').read()).shape)\n"
            "    except DataError as error:\n"
            "        print(error)\n"
            "    print((peak() - before) // 1024)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
        )
        lines = done.stdout.splitlines()
        for name, said, megabytes in zip(names, lines[::2], lines[1::2], strict=True):
            assert said.startswith(f"{name} has {side} x {side} pixels in "), said
            assert said.endswith("give --unpack-limit (unpack_limit, GiB)")
            assert int(megabytes) < 50, name

    def test_a_limit_of_the_user_s_own_raises_that_of_pixels(self):
        content = png(np.zeros((4100, 4100), np.uint8))
        with pytest.raises(DataError, match=r"x has 4100 x 4100 pixels in [\d,]+ bytes, more than"):
            decode([("x", content)])
        assert decode([("x", content)], Budget(1 << 27))[0].shape == (1, 4100, 4100, 1)

    def test_a_header_that_claims_everything(self):
        good = png(np.zeros((4, 4), np.uint8))
        header = struct.pack(">II", 1 << 30, 1 << 30) + good[24:29]
        with pytest.raises(DataError, match="x is no readable PNG"):
            read("x", good[:8] + chunk(b"IHDR", header) + good[33:])

    def test_ordinary_pictures_are_within_bounds(self, rng):
        budget = Budget()
        found, turned = decode([(str(k), picture(rng, (32, 32))[0]) for k in range(50)], budget)
        assert found.shape == (50, 32, 32, 3)
        assert turned == ()
