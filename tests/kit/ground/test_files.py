"""Only regular files are read, and within limits of size."""

import json
import os
from pathlib import Path

import pytest

from kit.ground import files
from kit.ground.errors import BrokenFiles


@pytest.mark.parametrize(
    ("text", "word"),
    [("[" * 5000 + "]" * 5000, "nested"), ('{"a": ' + "9" * 5000 + "}", "digits"), ('{\n"a" 1}', "json:2")],
)
def test_broken_json_and_json_beyond_a_limit_is_refused(text: str, word: str) -> None:
    Path("a.json").write_text(text)
    with pytest.raises(BrokenFiles, match=word):
        files.read_json(Path("a.json"))


def test_name_that_is_not_utf_8_is_restored_from_json() -> None:
    file, name = Path("a.json"), "latin\udce9.png"
    files.write_text(file, json.dumps({"name": name, "class": "h\u00e4user"}, ensure_ascii=False))
    assert files.read_json(file) == {"name": name, "class": "h\u00e4user"}


def test_only_regular_files_within_a_limit_are_read(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link").symlink_to("/dev/zero")
    Path("text").write_text("fine")
    for name, kind in (("pipe", "named pipe"), ("folder", "folder"), ("link", "device"), ("none", "no such file")):
        with pytest.raises(BrokenFiles, match=f"{name}: .*{kind}"):
            files.read_text(Path(name), 100)
    assert files.read_text(Path("text"), 4) == "fine"
    with pytest.raises(BrokenFiles, match="at most 3"):
        files.read_text(Path("text"), 3)
    with Path("sparse").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(BrokenFiles, match="at most"):
        files.read_json(Path("sparse"))
