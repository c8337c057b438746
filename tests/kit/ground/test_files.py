"""Only regular files are read, and within limits of size."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from kit.ground import files
from kit.ground.errors import BrokenFiles, UserError


@pytest.mark.parametrize(
    ("text", "word"),
    [("[" * 5000 + "]" * 5000, "nested"), ('{"a": ' + "9" * 5000 + "}", "digits"), ('{\n"a" 1}', "json:2")],
)
def test_broken_json_and_json_beyond_a_limit_is_refused(text: str, word: str) -> None:
    Path("a.json").write_text(text)
    with pytest.raises(BrokenFiles, match=word):
        files.read_json(Path("a.json"))


TEXT = "ä\n𝄞 b\n"
TEXTS = [TEXT.encode(name) for name in ("utf-8", "utf-8-sig", "utf-16")] + [b"\xfe\xff" + TEXT.encode("utf-16-be")]


@pytest.mark.parametrize("content", TEXTS)
def test_text_is_utf_8_or_utf_16_with_a_mark(content: bytes) -> None:
    Path("a.txt").write_bytes(content)
    assert files.read_text(Path("a.txt"), 100) == TEXT


OTHER_TEXTS = [
    (b"a\nb\xe9\n", 2),
    (b"\xef\xbb\xbfa\n\nb\xe9\n", 3),
    (b"a\nb\0\n", 2),
    ("a\nb".encode("utf-16-le"), 1),
    ("a\nb".encode("utf-32"), 1),
    ("a\nb\nc".encode("utf-16")[:-1], 3),
    ("中文".encode("gb2312"), 1),
]


@pytest.mark.parametrize(("content", "line"), OTHER_TEXTS)
def test_other_text_is_refused_with_its_line(content: bytes, line: int) -> None:
    Path("a.txt").write_bytes(content)
    with pytest.raises(BrokenFiles, match=rf"^a\.txt:{line}: not UTF-.*save") as raised:
        files.read_text(Path("a.txt"), 100)
    assert "\n" not in str(raised.value)


def test_name_that_is_not_utf_8_is_restored_from_json() -> None:
    file, name = Path("a.json"), "latin\udce9.png"
    files.write_text(file, json.dumps({"name": name, "class": "h\u00e4user"}, ensure_ascii=False))
    assert files.read_json(file) == {"name": name, "class": "h\u00e4user"}


def test_only_regular_files_within_a_limit_are_read(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link").symlink_to("/dev/zero")
    Path("text").write_text("fine")
    for name, kind in (("pipe", "named pipe"), ("folder", "folder"), ("link", "device"), ("none", "No such file")):
        with pytest.raises(BrokenFiles, match=f"{name}: .*{kind}"):
            files.read_text(Path(name), 100)
    assert files.read_text(Path("text"), 4) == "fine"
    with pytest.raises(BrokenFiles, match="at most 3"):
        files.read_text(Path("text"), 3)
    with Path("sparse").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(BrokenFiles, match="at most"):
        files.read_json(Path("sparse"))


def test_git_lfs_pointer_is_named() -> None:
    Path("a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    Path("a.json").symlink_to("a.png")
    content = Path("a.png").read_bytes()
    with pytest.raises(BrokenFiles, match=r"a\.json: a Git LFS pointer .*git lfs pull"):
        files.read_json(Path("a.json"))
    for arguments in ((Path("a.png"),), (Path("a.png"), content)):
        with pytest.raises(OSError, match=r"a Git LFS pointer .*git lfs pull"):
            files.open_image(*arguments)


def ended_process() -> int:
    process = os.fork()
    if not process:
        os._exit(0)
    os.waitpid(process, 0)
    return process


def test_files_of_killed_processes_are_removed() -> None:
    dead, here, other = ended_process(), files.MACHINE, "0badcafe"
    names = {
        f"a.uint8.part{dead}_1_{here}": False,  # whether it stays
        f"a.uint8.part{os.getpid()}_1_{here}": True,
        f"new.part{dead}_1_{other}": True,  # another machine may be writing to this share
        f"old.part{dead}_1_{other}": False,
        f"a.part{dead}": True,  # a file of the user
    }
    for name in names:
        Path(name).touch()
    days_ago = time.time() - 2 * files.SECONDS_UNTIL_ABANDONED
    os.utime(f"old.part{dead}_1_{other}", (days_ago, days_ago))
    files.write_text(Path("b.txt"), "fine")
    assert {path.name for path in Path().iterdir()} == {"b.txt", *(name for name, stays in names.items() if stays)}


def test_file_that_cannot_be_written_is_one_line() -> None:
    Path("file").touch()
    with pytest.raises(UserError, match=r"file/a\.txt cannot be written: File exists"):
        files.write_text(Path("file/a.txt"), "text")
    with pytest.raises(UserError, match=r"b\.txt cannot be written: No space"), files.replacing(Path("b.txt")) as part:
        part.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [path.name for path in Path().iterdir()] == ["file"]
