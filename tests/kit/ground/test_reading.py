"""Files that anyone may have written are read within limits, and end in one line."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from kit.cli import verbs
from kit.ground import reading
from kit.ground.errors import BrokenFiles, UserError
from kit.prediction import load
from kit.safeguards.writing import damage

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12))


def test_words_that_are_no_booleans_stay_text() -> None:
    read = reading.parse_yaml("[yes, no, on, off, y, true, False, null, ~, 007, 12:30, 2024-01-31, 0x1F]")
    text = ["yes", "no", "on", "off", "y"]
    assert read == [*text, True, False, None, None, "007", "12:30", "2024-01-31", "0x1F"]
    numbers = reading.parse_yaml("[1, -2, +3, 1_000, 1e-3, 1.5, .5, 2., 1.e3, -.inf]")
    assert numbers == [1, -2, 3, 1000, 0.001, 1.5, 0.5, 2.0, 1000.0, -float("inf")]
    assert [type(number) for number in numbers] == [int] * 4 + [float] * 6


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (LAUGHS, "values"),
        ("&a [*a]", "itself"),
        ("[" * 1000 + "]" * 1000, "nested"),
        ("- " * 60 + "x", "nested"),
        ("x: " + "9" * 5000, "5,000 digits"),
        ("x: !!int '" + "1:" * 5000 + "1'", "digits"),
        ("x: !!int cat", "cat"),
        ("x: !!timestamp cat", "groupdict"),
        ("!!python/object/apply:os.system [touch touched]", "tag"),
        ("x: \ud800", "surrogates"),
        ("a: [1", "expected"),
    ],
)
def test_yaml_beyond_a_limit_is_refused(text: str, word: str) -> None:
    with pytest.raises(yaml.YAMLError, match=word):
        reading.parse_yaml(text)
    assert not Path("touched").exists()


def test_anchors_within_the_limits_are_followed() -> None:
    assert reading.parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]")["b"] == {"x": 1, "y": 2}


def test_a_broken_config_is_named_with_its_line() -> None:
    Path("mine.yaml").write_text("names:\n- a\n- [b\n")
    with pytest.raises(UserError, match=r"mine\.yaml:4: broken YAML"):
        reading.read_yaml(Path("mine.yaml"))
    Path("mine.yaml").write_bytes("a: 1\nb: café\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"mine\.yaml:2: not UTF-8"):
        reading.read_yaml(Path("mine.yaml"))


@pytest.mark.parametrize(
    ("text", "word"),
    [("[" * 5000 + "]" * 5000, "nested"), ('{"a": ' + "9" * 5000 + "}", "digits"), ('{\n"a" 1}', "json:2")],
)
def test_json_beyond_a_limit_is_refused(text: str, word: str) -> None:
    Path("a.json").write_text(text)
    with pytest.raises(BrokenFiles, match=word):
        reading.read_json(Path("a.json"))


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link").symlink_to("/dev/zero")
    Path("text").write_text("fine")
    for name, kind in (("pipe", "named pipe"), ("folder", "folder"), ("link", "device"), ("none", "no such file")):
        with pytest.raises(BrokenFiles, match=f"{name}: .*{kind}"):
            reading.read_text(Path(name), 100)
    assert reading.read_text(Path("text"), 4) == "fine"
    with pytest.raises(BrokenFiles, match="at most 3"):
        reading.read_text(Path("text"), 3)
    with Path("sparse").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(BrokenFiles, match="at most"):
        reading.read_json(Path("sparse"))


def test_a_checkpoint_that_would_grow_is_refused() -> None:
    sound, bomb, larger, filler = Path("sound.ckpt"), Path("bomb.ckpt"), Path("larger.ckpt"), Path("filler.ckpt")
    torch.save({"a": torch.zeros(1000), "b": {"c": [1, "x"]}}, sound)
    reading.require_stored(sound)
    with zipfile.ZipFile(sound) as inside, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as outside:
        for part in inside.namelist():
            outside.writestr(part, inside.read(part))
    with pytest.raises(ValueError, match="compressed"):
        reading.require_stored(bomb)
    data = bytearray(sound.read_bytes())
    place = data.rindex(b"PK\1\2")  # the last entry of the directory, whose size is at 24
    data[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    larger.write_bytes(data)
    with pytest.raises(ValueError, match="declares"):
        reading.require_stored(larger)
    torch.save({"a": bytearray(10)}, filler)
    with pytest.raises(ValueError, match="bytearray"):
        reading.require_stored(filler)
    Path("older.ckpt").write_bytes(b"\x80\2N." + sound.read_bytes())  # a pickle for torch, a zip file for Python
    with pytest.raises(zipfile.BadZipFile):
        reading.require_stored(Path("older.ckpt"))


def test_weights_may_be_of_the_older_format_and_still_fill_nothing() -> None:
    for name, content in (("sound", torch.zeros(9)), ("filler", bytearray(10))):
        torch.save({"a": content}, f"{name}.pth", _use_new_zipfile_serialization=False)
        torch.save({"a": content}, f"{name}.pt")
    for ending in ("pt", "pth"):
        reading.require_weights(Path(f"sound.{ending}"))
        with pytest.raises(ValueError, match="bytearray"):
            reading.require_weights(Path(f"filler.{ending}"))


def test_what_would_grow_is_refused_by_every_verb() -> None:
    torch.save({"a": torch.zeros(1000)}, "sound.ckpt")
    with zipfile.ZipFile("sound.ckpt") as inside, zipfile.ZipFile("bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as outside:
        for part in inside.namelist():
            outside.writestr(part, inside.read(part))
    with pytest.raises(UserError, match=r"bomb\.ckpt .*compressed"):
        verbs.test(["bomb.ckpt"])
    with pytest.raises(UserError, match=r"bomb\.ckpt .*compressed"):
        load("bomb.ckpt")
    assert "compressed" in (damage(Path("bomb.ckpt")) or "")  # `--resume` takes another one


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x: [" + "1, " * 2**20 + "]", "bytes"),
        (LAUGHS, "values"),
        ("x: " + "[" * 5000 + "]" * 5000, "nest"),
        ("seed_everything: " + "9" * 5000, "digits"),
    ],
)
def test_configs_beyond_a_limit_end_in_one_line(text: str, word: str) -> None:
    Path("mine.yaml").write_text(text)
    with pytest.raises(UserError, match=f"mine.yaml:.*{word}"):
        verbs.fit(["--config", "mine.yaml"])
    with pytest.raises(UserError, match="/dev/zero: a device"):
        verbs.check(["--config", "/dev/zero"])


def test_a_checkpoint_in_which_python_and_torch_find_different_parts_is_refused() -> None:
    torch.save({"a": torch.zeros(9)}, "sound.ckpt")
    content = Path("sound.ckpt").read_bytes()
    start = content.index(b"PK\1\2")
    end = content.rindex(b"PK\6\6")
    Path("twice.ckpt").write_bytes(content[:end] + content[start:end] + content[end:])  # torch reads the first list
    Path("behind.ckpt").write_bytes(content + b"more")
    for name in ("twice", "behind"):
        with pytest.raises(zipfile.BadZipFile):
            reading.require_stored(Path(f"{name}.ckpt"))
    with zipfile.ZipFile("sound.ckpt") as inside, zipfile.ZipFile("plain.ckpt", "w") as outside:
        for part in inside.namelist():
            outside.writestr(part, inside.read(part))
    reading.require_stored(Path("plain.ckpt"))  # without zip64's records
    torch.save({"a": b"bytes"}, "bytes.ckpt")
    with pytest.raises(ValueError, match="bytes"):
        reading.require_stored(Path("bytes.ckpt"))
