"""Pictures in class folders: never fewer, others or differently labelled ones without a word."""

import bz2
import gzip
import io
import lzma
import os
import socket
import struct
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
from data_makers import make_folder, picture, small_tar, small_zip, two_classes
from PIL import Image

from confsim import ConfsimWarning
from confsim.deep.data import archive, limits, tar
from confsim.deep.data.folder import read_folder
from confsim.deep.data.limits import Budget, DataError, reading


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def _empty(tmp_path):
    path = tmp_path / "empty"
    path.mkdir()
    return path


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def entries(path, content):
    """What an archive of that content holds; None where it is refused, by name and in one line."""
    read = tar_members if path.suffix == ".tar" else zip_members
    try:
        return list(read(path, io.BytesIO(content)))
    except DataError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


def tar_members(path, file):
    with reading(path):
        yield from tar.tar_members(path, file, lambda name: name.endswith(".png"), Budget())


def zip_members(path, file):
    path.write_bytes(file.getvalue())
    return archive.members(path, lambda name: name.endswith(".png"), Budget())


def flips(content, start, stop):
    """The content with each single bit of a part of it flipped."""
    for at in range(start, stop):
        for bit in range(8):
            yield content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def same(one, other):
    return (
        np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        and one.names == other.names
    )


class TestFolder:
    def test_reads_both_parts_in_name_order(self, tmp_path, rng):
        made = make_folder(tmp_path / "data", rng)
        found = read_folder(tmp_path / "data")
        assert found.images.dtype == np.uint8
        assert found.images.shape == (12, 6, 5, 3)
        assert found.names == ("cat", "dog")
        expected = np.stack([made[name] for name in sorted(made)])
        assert np.array_equal(found.images, expected)
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1] * 2

    def test_archives_equal_the_folder(self, tmp_path, rng):
        make_folder(tmp_path / "data", rng)
        found = read_folder(tmp_path / "data")
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "data", "some/where")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in sorted((tmp_path / "data").rglob("*.png"), reverse=True):
                archive.write(file, file.relative_to(tmp_path))
        for name in ("a.tar.gz", "a.zip"):
            other = read_folder(tmp_path / name)
            assert np.array_equal(other.images, found.images)
            assert np.array_equal(other.labels, found.labels)

    def test_without_parts(self, tmp_path, rng):
        make_folder(tmp_path, rng, "{label}/{k}.png", mode="L")
        assert read_folder(tmp_path).images.shape == (12, 6, 5, 1)

    def test_grey_becomes_colour_beside_colour(self, tmp_path, rng):
        make_folder(tmp_path, rng, "{label}/{k}.png", mode="L")
        (tmp_path / "dog" / "zz.png").write_bytes(picture(rng)[0])
        found = read_folder(tmp_path)
        assert found.images.shape == (13, 6, 5, 3)
        assert (found.images[0, ..., 0] == found.images[0, ..., 2]).all()

    def test_names_that_leave_the_archive_are_harmless(self, tmp_path, rng):
        path = tmp_path / "inner" / "evil.tar"
        path.parent.mkdir()
        with tarfile.open(path, "w") as archive:
            for label in "ab":
                for k in range(2):
                    content = picture(rng)[0]
                    member = tarfile.TarInfo(f"../../{label}/{k}.png")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        before = sorted(tmp_path.parent.rglob("*"))
        assert len(read_folder(path).images) == 4
        assert sorted(tmp_path.parent.rglob("*")) == before

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda p, rng: (p / "cat/x.png").write_bytes(picture(rng, (4, 4))[0]), "one size"),
            (lambda p, rng: (p / "cat/x.png").write_bytes(b"GIF89a"), "no readable PNG"),
            (
                lambda p, rng: (p / "cat/x.png").write_bytes(picture(rng, mode="RGBA")[0]),
                "mode RGBA",
            ),
            (lambda p, rng: (p / "x.png").write_bytes(picture(rng)[0]), "not in a class folder"),
            (lambda p, rng: (p / "cat/x.png").write_bytes(picture(rng)[0][:60]), "x.png"),
        ],
    )
    def test_unfit_pictures(self, tmp_path, rng, spoil, message):
        make_folder(tmp_path, rng, "{label}/{k}.png")
        spoil(tmp_path, rng)
        with pytest.raises(ValueError, match=message):
            read_folder(tmp_path)

    def test_truncated_archives(self, tmp_path, rng):
        make_folder(tmp_path / "data", rng)
        for mode in ("w", "w:gz"):
            path = tmp_path / f"{mode[2:]}.tar"
            with tarfile.open(path, mode) as archive:
                archive.add(tmp_path / "data", "data")
            content = path.read_bytes()
            path.write_bytes(content[: len(content) * 2 // 3])
            with pytest.raises(ValueError, match="truncated"):
                read_folder(path)
        with pytest.raises(ValueError, match="does not exist"):
            read_folder(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="no PNG or JPEG"):
            read_folder(_empty(tmp_path))


class TestLayout:
    @pytest.mark.parametrize(
        "pair", [("plane", "train"), ("valid", "invalid"), ("control", "test"), ("Val", "Rob")]
    )
    @pytest.mark.parametrize("above", ["", "some/where/", "train/"])
    def test_classes_may_be_called_like_splits(self, tmp_path, rng, pair, above):
        files = {f"{above}{c}/{k}.png": picture(rng)[0] for c in pair for k in range(2)}
        assert read_folder(write(tmp_path, files)).names == tuple(sorted(pair))

    def test_also_below_splits(self, tmp_path, rng):
        files = {
            f"{split}/{c}/{split}{k}.png": picture(rng)[0]
            for split in ("train", "test")
            for c in ("train", "plane")
            for k in range(2)
        }
        found = read_folder(write(tmp_path, files))
        assert found.names == ("plane", "train")
        assert len(found.images) == 8

    @pytest.mark.parametrize(
        "names",
        [
            ("train/1.png", "test/2.png"),  # no classes at all
            ("train/cat/1.png", "train/dog/2.png", "unlabelled/3.png"),
            ("train/cat/1.png", "extra/dog/2.png"),
            ("cat/1.png", "dog/deep/2.png"),
            ("cat/1.png", "2.png"),
        ],
    )
    def test_what_has_no_class_is_refused_by_name(self, tmp_path, rng, names):
        files = {name: picture(rng)[0] for name in names}
        with pytest.raises(DataError, match=r"png is not in a class folder"):
            read_folder(write(tmp_path, files))

    def test_an_empty_class_is_refused(self, tmp_path, rng):
        write(tmp_path, two_classes(rng))
        (tmp_path / "emu").mkdir()
        with pytest.raises(DataError, match="class folder emu holds no picture"):
            read_folder(tmp_path)
        path = tmp_path / "a.tar"
        path.write_bytes(small_tar(two_classes(rng), [("emu", tarfile.DIRTYPE, "")]))
        with pytest.raises(DataError, match="class folder emu holds no picture"):
            read_folder(path)

    def test_a_class_that_one_split_lacks_is_noted(self, tmp_path, rng):
        files = {f"train/{name}": content for name, content in two_classes(rng).items()}
        files["test/cat/9.png"] = picture(rng, (4, 4))[0]
        write(tmp_path, files)
        (tmp_path / "test" / "dog").mkdir()
        found = read_folder(tmp_path)
        assert len(found.images) == 5
        assert found.notes == (f"{tmp_path}: no picture lies in test/dog",)

    def test_classes_that_differ_in_case_or_form_only_are_noted(self, tmp_path, rng):
        decomposed = unicodedata.normalize("NFD", "\u00e9mu")
        files = {
            f"{c}/{k}.png": picture(rng)[0]
            for c in ("Cat", "cat", "\u00e9mu", decomposed, "dog")
            for k in range(2)
        }
        path = tmp_path / "a.tar"
        path.write_bytes(small_tar(files))
        found = read_folder(path)
        assert len(found.names) == 5
        assert len(found.notes) == 2
        assert "classes 'Cat' and 'cat' differ only in case" in found.notes[0]

    def test_names_that_are_not_utf8(self, tmp_path, rng):
        files = two_classes(rng)
        root = write(tmp_path / "data", files)
        (root / "cat" / "0.png").rename(root / "cat" / os.fsdecode(b"caf\xe9.png"))
        assert len(read_folder(tmp_path / "data").images) == 4  # a class decides, a file does not
        (root / "cat").rename(root / os.fsdecode(b"caf\xe9"))
        with pytest.raises(DataError, match=r"class folder 'caf\\\\xe9' is not UTF-8: rename it"):
            read_folder(tmp_path / "data")
        names = {name.replace("cat", "caf\udce9"): content for name, content in files.items()}
        path = tmp_path / "a.tar"
        path.write_bytes(small_tar(names, form=tarfile.GNU_FORMAT))
        with pytest.raises(DataError, match="is not UTF-8"):
            read_folder(path)

    def test_zip_names_without_the_mark_for_utf8(self, tmp_path, rng):
        files = {name.replace("cat", "k\u00e4tzchen"): c for name, c in two_classes(rng).items()}
        marked = small_zip(files)
        unmarked = bytearray(marked)
        for sign, at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
            found = marked.find(sign)
            while found >= 0:
                unmarked[found + at] &= ~0x08
                found = marked.find(sign, found + 4)
        (tmp_path / "a.zip").write_bytes(marked)
        (tmp_path / "b.zip").write_bytes(unmarked)
        assert read_folder(tmp_path / "b.zip").names == ("dog", "k\u00e4tzchen")
        assert same(read_folder(tmp_path / "a.zip"), read_folder(tmp_path / "b.zip"))
        (tmp_path / "c.zip").write_bytes(unmarked.replace(b"\xc3\xa4", b"\xe4e"))
        with pytest.raises(DataError, match="is not UTF-8"):
            read_folder(tmp_path / "c.zip")


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("suffix", "kind"),
        [
            ("jfif", "JPEG"),
            ("JPE", "JPEG"),
            ("bmp", "BMP"),
            ("gif", "GIF"),
            ("ppm", "PPM"),
            ("tif", "TIFF"),
            ("webp", "WEBP"),
        ],
    )
    def test_formats_that_are_read(self, tmp_path, rng, suffix, kind):
        write(tmp_path, two_classes(rng))
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pixels[:] = pixels[0, 0]
        options = {"lossless": True} if kind == "WEBP" else {}
        (tmp_path / "emu").mkdir()
        for k in range(2):
            Image.fromarray(pixels).save(tmp_path / "emu" / f"{k}.{suffix}", kind, **options)
        found = read_folder(tmp_path)
        assert found.names == ("cat", "dog", "emu")
        off = np.abs(found.images[-1].astype(int) - pixels)
        assert off.max() <= (4 if kind == "JPEG" else 0)

    @pytest.mark.parametrize("suffix", ["heic", "avif", "JP2", "tga", "npy", "Mpo", "j2c", "cr3"])
    def test_pictures_that_are_not_read_are_refused(self, tmp_path, rng, suffix):
        write(tmp_path, two_classes(rng))
        (tmp_path / "cat" / f"x.{suffix}").write_bytes(b"some picture")
        with pytest.raises(DataError, match=rf"1 files that may be images .*cat/x\.{suffix}"):
            read_folder(tmp_path)

    def test_a_class_of_other_files_is_refused(self, tmp_path, rng):
        write(tmp_path, {**two_classes(rng), "emu/1.txt": b"", "emu/2": b""})
        with pytest.raises(DataError, match="class folder emu holds no picture"):
            read_folder(tmp_path)

    def test_other_and_hidden_files_are_counted(self, tmp_path, rng):
        beside = {
            "labels.csv": b"",
            "cat/1.txt": b"",
            "cat/.DS_Store": b"",
            "dog/._1.png": b"",
            "cat/Thumbs.db": b"",
            "__MACOSX/cat/1.png": b"",
        }
        files = {**two_classes(rng), **beside}
        expected = read_folder(write(tmp_path / "plain", two_classes(np.random.default_rng(5))))
        (tmp_path / "a.zip").write_bytes(small_zip(files))
        (tmp_path / "a.tar").write_bytes(small_tar(files))
        for path in (write(tmp_path / "data", files), tmp_path / "a.zip", tmp_path / "a.tar"):
            found = read_folder(path)
            assert same(found, expected)
            assert "2 files without the suffix of a picture were not read" in found.notes[0]
            assert ".csv: 1" in found.notes[0]
            assert "4 hidden entries were ignored" in found.notes[1]

    def test_a_name_that_comes_twice(self, tmp_path, rng):
        files = two_classes(rng)
        other = small_zip({**files, "cat/2.png": files["cat/1.png"]})
        (tmp_path / "a.zip").write_bytes(other.replace(b"cat/2.png", b"cat/0.png"))
        (tmp_path / "a.tar").write_bytes(small_tar({**files, "./cat/0.png": files["cat/1.png"]}))
        for name in ("a.zip", "a.tar"):
            with pytest.raises(DataError, match=r"holds .*cat/0\.png twice"):
                read_folder(tmp_path / name)


class TestLinksAndSpecialFiles:
    def test_links_in_a_directory_are_followed(self, tmp_path, rng):
        expected = read_folder(write(tmp_path / "data", two_classes(rng)))
        linked = tmp_path / "linked"
        linked.mkdir()
        (linked / "cat").symlink_to(tmp_path / "data" / "cat")
        (linked / "dog").mkdir()
        for k in range(2):
            (linked / "dog" / f"{k}.png").symlink_to(tmp_path / "data" / "dog" / f"{k}.png")
        assert same(read_folder(linked), expected)
        os.link(linked.parent / "data" / "dog" / "0.png", tmp_path / "data" / "dog" / "3.png")
        assert len(read_folder(linked.parent / "data").images) == 5

    def test_links_that_lead_nowhere_or_round_are_refused(self, tmp_path, rng):
        write(tmp_path, two_classes(rng))
        link = tmp_path / "cat" / "9.png"
        link.symlink_to("gone.png")
        with pytest.raises(DataError, match=r"cat/9\.png is a link that leads nowhere"):
            read_folder(tmp_path)
        link.unlink()
        link.symlink_to(link)
        with pytest.raises(DataError, match=r"cat/9\.png is a link that leads nowhere"):
            read_folder(tmp_path)
        link.unlink()
        (tmp_path / "cat" / "again").symlink_to(tmp_path)
        with pytest.raises(DataError, match="same directory"):
            read_folder(tmp_path)

    @pytest.mark.parametrize("name", ["cat/9.png", "cat/pipe", "pipe"])
    def test_pipes_and_sockets_never_hang(self, tmp_path, rng, name):
        write(tmp_path, two_classes(rng))
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name} is a named pipe"):
            read_folder(tmp_path)
        (tmp_path / name).unlink()
        with socket.socket(socket.AF_UNIX) as end:
            before = Path.cwd()
            os.chdir(tmp_path)  # names of sockets are short
            try:
                end.bind(name)
            finally:
                os.chdir(before)
            with pytest.raises(DataError, match=rf"{name} is a socket"):
                read_folder(tmp_path)

    def test_a_pipe_or_a_device_in_place_of_the_data(self, tmp_path):
        os.mkfifo(tmp_path / "a.tar")
        with pytest.raises(DataError, match="is a named pipe, not a regular file"):
            read_folder(tmp_path / "a.tar")
        with pytest.raises(DataError, match="is a device, not a regular file"):
            read_folder(Path("/dev/zero"))

    def test_hard_links_in_a_tar_are_pictures(self, tmp_path, rng):
        files = two_classes(rng)
        links = [("cat/9.png", tarfile.LNKTYPE, "cat/0.png")]
        (tmp_path / "a.tar").write_bytes(small_tar(files, links))
        found = read_folder(tmp_path / "a.tar")
        assert len(found.images) == 5
        assert np.array_equal(found.images[0], found.images[2])

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (tarfile.SYMTYPE, r"a symbolic link to 0\.png.*--dereference"),
            (tarfile.LNKTYPE, r"a link to 0\.png, which is no such file"),
            (tarfile.FIFOTYPE, "a pipe, which is not read"),
            (tarfile.CHRTYPE, "a device"),
            (b"V", r"a volume's label, which is not read: make the archive anew without it"),
            (b"D", "a directory of an incremental backup"),
            (tarfile.GNUTYPE_SPARSE, "a sparse file"),
            (b"Q", "an entry of kind b'Q'"),
        ],
    )
    def test_other_entries_of_a_tar_are_refused(self, tmp_path, rng, kind, message):
        path = tmp_path / "a.tar"
        path.write_bytes(small_tar(two_classes(rng), [("cat/9.png", kind, "0.png")]))
        with pytest.raises(DataError, match=rf"a\.tar: cat/9\.png is {message}"):
            read_folder(path)

    def test_a_link_in_a_zip_is_refused(self, tmp_path, rng):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in two_classes(rng).items():
                archive.writestr(name, content)
            link = zipfile.ZipInfo("cat/9.png")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            archive.writestr(link, "0.png")
        with pytest.raises(DataError, match=r"cat/9\.png is a symbolic link"):
            read_folder(path)


class TestDamagedArchives:
    @pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_every_bit_of_every_tar_header(self, tmp_path, form):
        """The long name needs an extended header, whose content no checksum covers."""
        long_name = "dog/" + "n" * 120 + ".png"
        good = small_tar({"cat/1.png": b"one", long_name: b"two"}, form=form).rstrip(b"\0")
        good += bytes(-len(good) % 512 + 1024)
        expected, read, offsets = entries(tmp_path / "a.tar", good), 0, header_offsets(good)
        for start in offsets:
            for bad in flips(good, start, start + 512):
                found = entries(tmp_path / "a.tar", bad)
                if found is not None:
                    read += 1
                    assert found == expected
        assert len(expected) == 2
        assert read < 40 * len(offsets)  # bits of the field of the checksum itself

    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_every_truncation_of_a_tar(self, tmp_path, mode):
        good = small_tar({"dog/1.png": b"one", "cat/1.png": b"two"}, mode=mode)
        expected, refused = entries(tmp_path / "a.tar", good), 0
        end = 4 * 512 if mode == "w" else len(good)
        # Of an archive that is not compressed, only zeros after its end may be missing.
        for size in [*range(end + 512 if mode == "w" else end)]:
            found = entries(tmp_path / "a.tar", good[:size])
            refused += found is None
            assert found in (None, expected)
        assert len(expected) == 2
        assert refused >= end

    def test_data_after_the_end_of_a_tar(self, tmp_path, rng):
        one = small_tar(two_classes(rng))
        (tmp_path / "a.tar").write_bytes(one + small_tar({"emu/1.png": picture(rng)[0]}))
        with pytest.raises(DataError, match="data follow the end of the archive"):
            read_folder(tmp_path / "a.tar")

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_every_bit_and_every_truncation_of_a_zip(self, tmp_path, method):
        good = small_zip({"dog/1.png": b"one", "cat/1.png": b"twice twice"}, method)
        expected = entries(tmp_path / "a.zip", good)
        assert len(expected) == 2
        for bad in flips(good, 0, len(good)):
            assert entries(tmp_path / "a.zip", bad) in (None, expected)
        for size in range(len(good)):
            assert entries(tmp_path / "a.zip", good[:size]) is None

    def test_a_zip_directory_that_is_one_entry_short(self, tmp_path, rng):
        good = small_zip(
            {name.replace(".png", "a234.png"): c for name, c in two_classes(rng).items()}
        )
        at = good.rfind(b"PK\5\6")
        size = int.from_bytes(good[at + 12 : at + 16], "little")
        entry = 46 + len("cat/0a234.png")
        short = good[: at + 12] + (size - entry).to_bytes(4, "little") + good[at + 16 :]
        (tmp_path / "a.zip").write_bytes(short)
        with pytest.raises(DataError, match="lists 3 of 4 files"):
            read_folder(tmp_path / "a.zip")

    def test_more_files_than_16_bits_count(self, tmp_path, monkeypatch):
        files = {f"dog/{k:02}.png": b"one" for k in range(4)}
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
        good = small_zip(files)
        assert b"PK\6\6" in good
        # The last record says that there are too many to say, as in an archive of 70,000.
        at = good.rfind(b"PK\5\6")
        good = good[: at + 8] + b"\xff" * 4 + good[at + 12 :]
        assert len(entries(tmp_path / "a.zip", good)) == 4
        at = good.rfind(b"PK\6\6")
        size = int.from_bytes(good[at + 40 : at + 48], "little")
        short = good[: at + 40] + (size - 46 - 10).to_bytes(8, "little") + good[at + 48 :]
        assert entries(tmp_path / "a.zip", short) is None

    def test_methods_and_passwords(self, tmp_path, rng):
        good = small_zip(two_classes(rng), zipfile.ZIP_DEFLATED)
        for name, local, central, value, message in (
            ("method", 8, 10, 9, "compressed by a method that Python cannot read .number 9"),
            ("password", 6, 8, 1, "encrypted"),
        ):
            raw = bytearray(good)
            for sign, at in ((b"PK\3\4", local), (b"PK\1\2", central)):
                found = good.find(sign)
                while found >= 0:
                    raw[found + at : found + at + 2] = struct.pack("<H", value)
                    found = good.find(sign, found + 4)
            path = tmp_path / f"{name}.zip"
            path.write_bytes(raw)
            with pytest.raises(DataError, match=rf"{name}\.zip: cat/0\.png is {message}"):
                read_folder(path)

    @pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
    @pytest.mark.parametrize("inside", ["cat/0.png", "cat/readme"])
    def test_bombs(self, tmp_path, monkeypatch, name, inside):
        """Zeros, as a picture or as something that is not even wanted."""
        monkeypatch.setattr(limits, "UNPACK_FLOOR", 1 << 20)
        zeros = {"dog/0.png": b"", inside: bytes(8 << 20)}
        path = tmp_path / name
        if name == "a.zip":
            path.write_bytes(small_zip(zeros, zipfile.ZIP_DEFLATED))
            if inside == "cat/readme":
                with pytest.raises(DataError, match="with at least two classes"):
                    read_folder(path)  # what is not wanted is never unpacked
                return
        else:
            path.write_bytes(small_tar(zeros, mode=f"w:{name[6:]}"))
        assert path.stat().st_size < 20_000
        with pytest.raises(DataError, match=rf"{name}.* makes the data unpack to more than"):
            read_folder(path)

    @pytest.mark.parametrize(
        ("start", "kind"),
        [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\7\0", "RAR"), (b"\4\x22\x4d\x18", "LZ4")],
    )
    def test_other_archives_are_named(self, tmp_path, start, kind):
        (tmp_path / "a").write_bytes(start + bytes(600))
        with pytest.raises(DataError, match=f"packed by {kind}, which is not read: unpack it"):
            read_folder(tmp_path / "a")

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
    def test_every_stream_of_a_packed_tar_is_read(self, tmp_path, rng, pack):
        """Parallel packers write several; what is no further one is data after the end."""
        files = two_classes(rng)
        plain, path = small_tar(files), tmp_path / "a.tar.x"
        path.write_bytes(pack(plain[:1500]) + pack(plain[1500:]))
        assert len(read_folder(path).images) == len(files)
        second = bytearray(pack(small_tar({"emu/1.png": picture(rng)[0]})))
        for first in (second[0], second[0] ^ 1):
            second[0] = first
            path.write_bytes(pack(plain) + second)
            with pytest.raises(DataError, match=r"a\.tar\.x is "):
                read_folder(path)

    def test_a_packed_picture_is_no_archive(self, tmp_path, rng):
        (tmp_path / "0.png.gz").write_bytes(gzip.compress(picture(rng, (40, 40))[0]))
        with pytest.raises(DataError, match="holds no tar archive"):
            read_folder(tmp_path / "0.png.gz")

    @pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_every_bit_of_an_extended_header(self, tmp_path, form, rng):
        """No checksum covers a long name. Whatever it becomes, no picture is lost in silence."""
        long_name = "dog/" + "\u00ef" * 60 + ".png"
        files = {"cat/1.png": picture(rng, (1, 1))[0], long_name: picture(rng, (1, 1))[0]}
        good, path = small_tar(files, form=form), tmp_path / "a.tar"
        start = next(at for at in header_offsets(good) if good[at + 156 : at + 157] in b"Lx")
        size = int(good[start + 124 : start + 135], 8)
        refused = 0
        for bad in flips(good, start + 512, start + 512 + size):
            path.write_bytes(bad)
            try:
                found = read_folder(path)
            except DataError as error:
                assert "a.tar" in str(error)  # noqa: PT017 - not every bit is refused
                refused += 1
            else:
                assert len(found.images) == 2 or found.notes
        assert refused

    def test_unknown_keys_of_a_pax_header(self, tmp_path, rng):
        files = {f"{'n' * 120}/{name}": content for name, content in two_classes(rng).items()}
        good, path = small_tar(files), tmp_path / "a.tar"
        path.write_bytes(good.replace(b" path=", b" pbth=", 1))
        with pytest.raises(DataError, match=r"a\.tar is damaged: a pax header with the key 'pbth'"):
            read_folder(path)

    def test_archives_one_after_the_other(self, tmp_path, rng):
        """Only the last one's directory is looked up, as by every program."""
        one, other = small_zip(two_classes(rng)), small_zip({"emu/1.png": picture(rng)[0]})
        path = tmp_path / "a.zip"
        path.write_bytes(other + one)
        with pytest.raises(DataError, match=r"a\.zip is damaged: files stand before the first"):
            read_folder(path)
        path.write_bytes(one + other[:100])
        with pytest.raises(DataError, match=r"a\.zip is damaged: data follow the end"):
            read_folder(path)
        path.write_bytes(b"#!/bin/sh\nexec unzip $0\n" * 50_000 + one)
        assert len(read_folder(path).images) == 4


def header_offsets(content):
    """Where the headers and extended headers of a tar begin."""
    offsets, at = [], 0
    while content[at : at + 512].strip(b"\0"):
        offsets.append(at)
        size = int(content[at + 124 : at + 135], 8)
        at += 512 + -(-size // 512) * 512
    return offsets


def test_notes_become_warnings(tmp_path, rng):
    from confsim.deep.data import load

    write(tmp_path, {**two_classes(rng), "cat/.DS_Store": b""})
    load.cache_clear()
    with pytest.warns(ConfsimWarning, match="1 hidden entries were ignored"):
        data = load(f"folder:{tmp_path}")
    assert len(data.notes) == 1
