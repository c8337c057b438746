"""Checkpoints on the disk are whole, whatever happens while they are written."""

import resource
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.ground.errors import UserError
from kit.safeguards.resume import restarting, writing
from kit.safeguards.resume.writing import Writer, find_damage, write

CONTENT = {"weights": torch.arange(12.0).view(3, 4), "deep": [{"step": 7}, (torch.ones(2),)]}


def read(file: Path) -> dict:
    return torch.load(file, weights_only=True)


def test_previous_checkpoint_is_kept(tmp_path):
    writer = Writer()
    for step in range(3):
        writer.save_checkpoint({"step": step}, tmp_path / "checkpoints" / "last.ckpt")
        writer.save_checkpoint({"step": step}, tmp_path / "checkpoints" / "best.ckpt")
    writer.teardown()
    there = {file.name: read(file)["step"] for file in (tmp_path / "checkpoints").iterdir()}
    assert there == {"last.ckpt": 2, "previous.ckpt": 1, "best.ckpt": 2}


def test_teardown_waits_for_the_file_and_frees_the_thread(tmp_path):
    writer, threads = Writer(), threading.active_count()
    for number in range(2):
        writer.save_checkpoint({"number": torch.tensor(number)}, tmp_path / "last.ckpt")
        writer.teardown()
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["number"] == number
        assert threading.active_count() == threads


def started(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """Return a started process; forked, since importing torch again would take seconds."""
    process = get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def fill() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = Writer()
    writer.save_checkpoint({"step": 0}, Path("last.ckpt"))
    writer.teardown()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for step in (1, 2):
        writer.save_checkpoint({"step": step, "weights": torch.ones(100_000)}, Path("last.ckpt"))
        writer.teardown()
    print("went on")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_full_disk_is_reported_and_replaces_nothing(tmp_path, capfd):
    started(fill).join()
    out, err = capfd.readouterr()
    assert out == "went on\n", err
    assert err.count("last.ckpt could not be written") == len(err.splitlines()) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert read(tmp_path / "last.ckpt") == {"step": 0}


def write_for_ever(file: Path) -> None:
    for step in count():
        write({"step": step, "weights": torch.full((200_000,), float(step))}, file)


def test_kill_at_any_moment_leaves_whole_files(tmp_path):
    for number, pause in enumerate((0.02, 0.05, 0.11)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = started(write_for_ever, folder / "last.ckpt")
        while not (folder / "previous.ckpt").exists():
            time.sleep(0.01)
        time.sleep(pause)
        run.kill()
        run.join()
        files = [folder / name for name in ("previous.ckpt", "last.ckpt") if (folder / name).exists()]
        contents = [read(file) for file in files]  # killed between two renames, there is no last.ckpt
        assert [content["step"] - contents[0]["step"] for content in contents] in ([0, 1], [0])
        assert all(find_damage(file) is None for file in files)
        assert all((content["weights"] == content["step"]).all() for content in contents)


@given(place=st.integers(0, 10**9), byte=st.integers(1, 255))
def test_changed_byte_is_damage_or_changes_nothing(tmp_path_factory, place, byte):
    file = tmp_path_factory.mktemp("bytes") / "last.ckpt"
    write(CONTENT, file)
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= byte
    file.write_bytes(content)
    if find_damage(file) is None:  # padding between the parts, or a date
        found = read(file)
        assert torch.equal(found["weights"], CONTENT["weights"]) and found["deep"][0] == {"step": 7}


def test_part_marked_as_folder_counts_as_damage(tmp_path):
    """By one bit in the zip file's table: torch would give what the memory held before."""
    file = tmp_path / "last.ckpt"
    write(CONTENT, file)
    whole = file.read_bytes()
    entries = [place for place in range(len(whole)) if whole.startswith(b"PK\1\2", place)]
    assert entries
    for entry in entries:
        content = bytearray(whole)
        content[entry + 38] ^= 16  # of its external attributes, MS-DOS's bit for a folder
        file.write_bytes(content)
        assert "is damaged" in str(find_damage(file))


@given(share=st.floats(0, 0.999))
def test_truncated_file_counts_as_damage(tmp_path_factory, share):
    file = tmp_path_factory.mktemp("bytes") / "last.ckpt"
    write(CONTENT, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert find_damage(file) is not None


def test_torch_writes_checksums(tmp_path):
    write(CONTENT, tmp_path / "last.ckpt")
    with zipfile.ZipFile(tmp_path / "last.ckpt") as archive:
        assert all(part.CRC for part in archive.infolist() if part.filename.endswith(("data.pkl", "data/0")))


def test_newest_undamaged_checkpoint_is_chosen(tmp_path, capsys):
    run, folder = tmp_path / "run", tmp_path / "run" / "checkpoints"
    with pytest.raises(UserError, match="no run folder"):
        restarting.choose(str(run))
    folder.mkdir(parents=True)
    (run / "config.yaml").write_text("seed_everything: 0\n")
    assert restarting.choose(str(run)) is None
    assert "before its first checkpoint" in capsys.readouterr().err
    for step in range(2):
        write({"step": step}, folder / "last.ckpt")
    assert restarting.choose(str(run)) == folder / "last.ckpt"
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:-200])
    assert restarting.choose(str(run)) == folder / "previous.ckpt"
    assert "last.ckpt is damaged" in capsys.readouterr().err
    (folder / "previous.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read: start the run again"):
        restarting.choose(str(run))
    write({"step": 0}, folder / "best.ckpt")
    with pytest.raises(UserError, match=f"with --resume {folder / 'best.ckpt'}, or start"):
        restarting.choose(str(run))


def test_values_that_cannot_be_saved_or_read_back_are_reported(tmp_path, capsys):
    writer = Writer()
    writer.save_checkpoint({"factor": lambda step: 1}, tmp_path / "last.ckpt")
    for _ in range(3):
        writer.save_checkpoint({"when": Path()}, tmp_path / "last.ckpt")
    writer.teardown()
    first, second = capsys.readouterr().err.splitlines()
    assert "last.ckpt could not be written" in first and "training goes on" in first
    assert second.startswith(f"warning: --resume rejects {tmp_path / 'last.ckpt'} (")


def test_old_file_is_removed_only_after_the_new_one_is_complete(tmp_path, monkeypatch):
    writer, old, new = Writer(), tmp_path / "old.ckpt", tmp_path / "new.ckpt"
    writer.save_checkpoint({"step": 0}, old)
    slow_write = lambda content, path: (time.sleep(0.2), write(content, path))  # noqa: E731
    monkeypatch.setattr(writing, "write", slow_write)
    writer.save_checkpoint({"step": 1}, new)
    writer.remove_checkpoint(old)
    assert new.is_file() and not old.exists()
    writer.save_checkpoint({"step": lambda: 2}, old)  # cannot be written
    writer.remove_checkpoint(new)
    assert new.is_file()
    writer.teardown()


def test_documented_file_names():
    assert (writing.LAST, writing.PREVIOUS) == ("last.ckpt", "previous.ckpt")
