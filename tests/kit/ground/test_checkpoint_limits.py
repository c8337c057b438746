"""Checkpoints that would take more memory than their files have bytes are refused."""

import zipfile
from pathlib import Path

import pytest
import torch

from kit.cli import verbs
from kit.ground import checkpoint_limits
from kit.ground.errors import UserError
from kit.prediction import load
from kit.safeguards.resume.writing import find_damage


def test_checkpoint_larger_than_its_file_is_refused() -> None:
    sound, bomb, larger = Path("sound.ckpt"), Path("bomb.ckpt"), Path("larger.ckpt")
    torch.save({"a": torch.zeros(1000), "b": {"c": [1, "x"]}}, sound)
    checkpoint_limits.require_uncompressed(sound)
    with zipfile.ZipFile(sound) as inside, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as outside:
        for part in inside.namelist():
            outside.writestr(part, inside.read(part))
    with pytest.raises(ValueError, match="compressed"):
        checkpoint_limits.require_uncompressed(bomb)
    data = bytearray(sound.read_bytes())
    place = data.rindex(b"PK\1\2")  # the last entry of the directory, whose size is at 24
    data[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    larger.write_bytes(data)
    with pytest.raises(ValueError, match="declares"):
        checkpoint_limits.require_uncompressed(larger)
    Path("older.ckpt").write_bytes(b"\x80\2N." + sound.read_bytes())  # a pickle for torch, a zip file for Python
    with pytest.raises(zipfile.BadZipFile):
        checkpoint_limits.require_uncompressed(Path("older.ckpt"))


def test_weights_of_the_older_format() -> None:
    torch.save({"a": torch.zeros(9)}, "sound.pth", _use_new_zipfile_serialization=False)
    checkpoint_limits.refuse_compressed_zip(Path("sound.pth"))


def test_verbs_refuse_a_checkpoint_larger_than_its_file() -> None:
    torch.save({"a": torch.zeros(1000)}, "sound.ckpt")
    with zipfile.ZipFile("sound.ckpt") as inside, zipfile.ZipFile("bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as outside:
        for part in inside.namelist():
            outside.writestr(part, inside.read(part))
    with pytest.raises(UserError, match=r"bomb\.ckpt .*compressed"):
        verbs.test(["bomb.ckpt"])
    with pytest.raises(UserError, match=r"bomb\.ckpt .*compressed"):
        load("bomb.ckpt")
    assert "compressed" in (find_damage(Path("bomb.ckpt")) or "")  # `--resume` takes another one
