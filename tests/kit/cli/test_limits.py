"""Files that would hang the program, fill the memory or end in a traceback are refused in one line."""

import os
import zlib
from pathlib import Path

import pytest
from PIL import Image

from kit.checks.headers import read_header
from kit.checks.images import CheckedImage
from kit.checks.pixels import read_statistics
from kit.data.decode import decode
from kit.formats.folders import images
from kit.ground.errors import BrokenFiles
from kit.prediction.command import find_images

KINDS = ("pipe.jpg", "zero.jpg", "folder.jpg", "program.jpg", "huge.png", "long.jpg", "text.png")


@pytest.fixture
def no_images() -> dict[str, str]:
    """Make files that are no images, and return a word of the error message for each."""
    os.mkfifo("pipe.jpg")
    Path("zero.jpg").symlink_to("/dev/zero")
    Path("folder.jpg").mkdir()
    Path("program.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    whole = Path("whole.png")
    Image.new("P", (1, 1)).save(whole)
    header = bytearray(whole.read_bytes())
    header[16:24] = (2**30).to_bytes(4, "big") * 2  # width and height
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    Path("huge.png").write_bytes(header)
    with Path("long.jpg").open("wb") as file:
        file.truncate(2**40)
    Path("text.png").write_bytes(_with_text_bomb(whole.read_bytes()))
    words = ("named pipe", "device", "folder", "PostScript", "pixels", "bytes", "MAX_TEXT_CHUNK")
    return dict(zip(KINDS, words, strict=True))


def _with_text_bomb(png: bytes) -> bytes:
    """Return a PNG whose comment of 3 kB becomes 3 MB."""
    body = b"zTXt" + b"a\0\0" + zlib.compress(b"\0" * 3_000_000)
    return png[:33] + (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + png[33:]


def test_files_that_are_no_images_are_refused(no_images: dict[str, str]) -> None:
    for name, word in no_images.items():
        with pytest.raises(BrokenFiles, match=f"{name}: .*{word}"):
            decode(Path(name), 3, (4, 4))
        listed = CheckedImage(name, "train", 0, None)
        assert word in read_header(listed).message
        (fault,) = read_statistics([listed]).faults
        assert word in fault.message


def test_search_ends_with_circular_links_and_deep_folders(no_images: dict[str, str], tmp_path: Path) -> None:
    Path("folder.jpg/again").symlink_to(tmp_path)
    for number in range(30):  # there are 2**30 paths through these links
        Path(f"a{number}").mkdir()
    for number in range(29):
        for link in ("left", "right"):
            Path(f"a{number}/{link}").symlink_to(tmp_path / f"a{number + 1}")
    Path("a29/last.png").symlink_to(tmp_path / "whole.png")
    deep = tmp_path
    for _ in range(500):
        deep = deep / "d"
        deep.mkdir()
    names = {path.name for path in images(tmp_path)}
    assert names == {*KINDS, "whole.png", "last.png"} - {"folder.jpg"}
    assert {path.name for path in find_images([str(tmp_path)])} == names
