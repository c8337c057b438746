import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kit.data import Files, ImageDataModule, reading
from kit.data.reading import cache_images
from kit.ground.errors import BrokenFiles, UserError


def files(root: Path) -> Files:
    paths = sorted(root.rglob("*.png"))
    return Files(torch.arange(len(paths)), paths, 3, (6, 8))


def test_all_caches_give_the_same_pixels(image_folder):
    samples = files(image_folder({"": {"a": 3, "b": 2}}))
    none = torch.stack(samples.fetch([0, 1, 2, 3, 4]))
    assert none.shape == (5, 3, 6, 8)
    assert torch.equal(cache_images(samples).images, none)
    assert torch.equal(cache_images(samples, Path("cache")).images, none)
    assert torch.equal(torch.stack(cache_images(samples, Path("cache")).fetch([4, 0])), none[[4, 0]])
    assert len(list(Path("cache").iterdir())) == 1


def test_changed_file_is_read_again(image_folder):
    samples = files(image_folder({"": {"a": 2}}))
    before = cache_images(samples, Path("cache")).images.clone()
    samples.paths[0].write_bytes(samples.paths[1].read_bytes())
    os.utime(samples.paths[0], ns=(1, 1))
    after = cache_images(samples, Path("cache")).images
    assert torch.equal(after[0], before[1])
    assert not torch.equal(after[0], before[0])


def test_broken_file_is_named_and_nothing_is_left_behind(image_folder):
    samples = files(image_folder({"": {"a": 4}}))
    samples.paths[1].write_bytes(b"")
    with pytest.raises(BrokenFiles, match=r"1\.png"):
        cache_images(samples, Path("cache"))
    assert list(Path("cache").iterdir()) == []
    with pytest.raises(BrokenFiles, match=r"1\.png"):
        cache_images(samples)


def test_missing_file_is_named(image_folder):
    samples = files(image_folder({"": {"a": 2}}))
    samples.paths[1].unlink()
    with pytest.raises(BrokenFiles, match=r"1\.png: no such file"):
        cache_images(samples, Path("cache"))


class Folder(ImageDataModule):
    """The images of `image_folder`."""

    def find_class_names(self):
        return ["a", "b"]

    def find_in_channels(self):
        return 3

    def load_split(self, split):
        samples = files(Path("photos"))
        return replace(samples, targets=torch.arange(len(samples)) % 2) if split == "train" else None


def test_prepare_data_fills_the_disk_cache_for_the_other_processes(image_folder, monkeypatch):
    image_folder({"": {"a": 20, "b": 20}})
    Folder(cache="disk", cache_dir="cache").prepare_data()  # Lightning asks the first process of each machine
    monkeypatch.setattr(reading, "_fill", lambda *_: pytest.fail("filled again"))
    other = Folder(cache="disk", cache_dir="cache")
    other.setup("fit")
    assert len(other.samples["train"]) == 36


@pytest.mark.parametrize("length", [0, 0.5, 1.1])
def test_file_of_a_wrong_length_is_written_again(image_folder, length):
    samples = files(image_folder({"": {"a": 3}}))
    before = cache_images(samples, Path("cache")).images.clone()
    (file,) = Path("cache").iterdir()
    os.truncate(file, int(length * before.numel()))
    assert torch.equal(cache_images(samples, Path("cache")).images, before)
    assert file.stat().st_size == before.numel()


def test_folder_with_the_name_of_the_cache_is_named(image_folder):
    samples = files(image_folder({"": {"a": 3}}))
    cache_images(samples, Path("cache"))
    (file,) = Path("cache").iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=f"{file.name} cannot be written: Is a directory"):
        cache_images(samples, Path("cache"))


def test_full_disk_is_one_line(image_folder, monkeypatch):
    """Without an allocation, the kernel would kill the process at a write to the memory map."""

    def fail(descriptor, offset, size):
        assert (offset, size) == (0, 3 * 3 * 6 * 8)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(UserError, match=r"uint8 cannot be written: No space left"):
        cache_images(files(image_folder({"": {"a": 3}})), Path("cache"))
    assert list(Path("cache").iterdir()) == []
