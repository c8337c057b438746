from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from kit.data import Files, ImageDataModule, Tensors, loading
from kit.data.datamodule import evaluated_split
from kit.data.preprocessing import mean_and_std
from kit.ground.errors import UserError


class Noise(ImageDataModule):
    """40 random images of 5x7 and two classes."""

    def find_class_names(self):
        return ["a", "b"]

    def find_in_channels(self):
        return 3

    def load_split(self, split):
        images = torch.randint(0, 256, (40, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Tensors(torch.arange(40) % 2, images) if split == "train" else None


def ready(**options) -> Noise:
    data = Noise(batch_size=8, **options)
    data.setup("fit")
    return data


def test_tenth_of_train_is_split_off_for_validation():
    data = ready()
    train, val = data.samples["train"].images, data.samples["val"].images
    assert (len(train), len(val)) == (36, 4)
    assert data.samples["val"].targets.tolist().count(0) == 2
    assert len(torch.cat([train, val]).flatten(1).unique(dim=0)) == 40
    assert evaluated_split(data) == "val"


def test_bars_of_labels_have_the_most_frequent_class_first():
    data = ready()
    assert sum(data.charts()["labels"].values.values()) == 36  # without the validation part
    data.count_classes = lambda samples: [9, 12_345]
    bars = data.charts()["labels"]
    assert list(bars.values.items()) == [("b", 12_345), ("a", 9)] and bars.texts["b"] == "12,345"
    data.count_classes = lambda samples: [-1, 5]  # unknown, so that there is nothing to compare
    assert data.charts() == {}


def test_no_charts_without_training_images():
    data = Noise(mean=[0.5] * 3, std=[0.5] * 3)
    data.all_is_test = True
    data.setup("test")
    assert data.samples["train"] is None and data.charts() == {}


def test_normalised_images_have_mean_0_and_deviation_1():
    data = ready()
    images = data.preprocessing.normalise(data.samples["train"].images)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_mean_and_std_of_known_images():
    images = torch.stack([torch.zeros(1, 2, 3), torch.full((1, 2, 3), 255)]).to(torch.uint8)
    assert mean_and_std(Tensors(torch.tensor([0, 1]), images), ImageDataModule.sample) == ([0.5], [0.5])


@pytest.mark.parametrize("workers", [1, 2])
def test_number_of_workers_does_not_change_batches(workers):
    augment = [v2.RandomCrop((5, 7), padding=2), v2.RandomHorizontalFlip()]
    torch.manual_seed(5)
    alone = list(ready(augment=augment, num_workers=0).train_dataloader())
    torch.manual_seed(6)
    shared = list(ready(augment=augment, num_workers=workers).train_dataloader())
    assert len(alone) == 4
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_full_shared_memory_does_not_change_batches(monkeypatch):
    """torch would lose these batches, and wait for them forever."""
    alone = list(ready(num_workers=0).train_dataloader())

    def fail(storage):
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(loading, "reduce_storage", fail)
    loading._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="/dev/shm is full"):
        batches = list(ready(num_workers=1).train_dataloader())
    for one, other in zip(alone, batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ImportError("no sem_open")])
def test_no_workers_start_without_semaphores(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda: SimpleNamespace(Semaphore=fail))
    loading._warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"cannot create one \(.*\): --data.num_workers 0 is used") as warned:
        loaders = [ready(num_workers=2).train_dataloader() for _ in range(2)]
    assert [loader.num_workers for loader in loaders] == [0, 0] and len(warned) == 1


def test_augmentation_restores_the_random_state():
    batches = iter(ready(augment=[v2.RandomHorizontalFlip()], num_workers=0).train_dataloader())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert len(list(batches)) == 4
    assert torch.equal(torch.rand(3), expected)


def test_images_of_several_sizes_are_evaluated_one_at_a_time():
    class Sizes(Tensors):
        one_size = False

    data = ready()
    for split in ("train", "val"):
        samples = data.samples[split]
        data.samples[split] = Sizes(samples.targets, samples.images)
    assert [len(batch.keys) for batch in data.val_dataloader()] == [1] * 4
    assert [len(batch.keys) for batch in data.train_dataloader()] == [8] * 4


def test_keys_are_indices_of_samples():
    data = ready()
    batch = next(iter(data.val_dataloader()))
    assert batch.keys.tolist() == [0, 1, 2, 3]
    assert data.files(batch.keys, "val")[1] == "sample 1 of val"
    assert torch.equal(batch.images, data.samples["val"].images)


def test_wrong_mean_and_std_are_refused():
    with pytest.raises(UserError, match=r"data\.mean and data\.std go together"):
        Noise(mean=[0.5] * 3)
    with pytest.raises(UserError, match=r"data\.mean must be 3 numbers"):
        ready(mean=[0.5], std=[0.2])
    data = ready()  # as from a harmed checkpoint
    for wrong in ([0.5], [0.5, None, 0.5]):
        with pytest.raises(UserError, match=r"data\.mean must be 3 numbers"):
            data.load_state_dict({**data.state_dict(), "mean": wrong})


class FilesOfNoise(Noise):
    """One black image of 8x4 for testing, in a file."""

    def load_split(self, split):
        Image.new("RGB", (4, 8)).save("black.png")
        paths, size = [Path("black.png")], self.input_size
        return Files(torch.tensor([0]), paths, 3, size, self.keep_aspect) if split == "test" else None


class FilesWithOption(FilesOfNoise):
    def __init__(self, keep_aspect: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.keep_aspect = keep_aspect


@pytest.mark.parametrize("kept", [False, True])
def test_other_data_are_padded_or_stretched_as_in_the_run(kept):
    run = ready()
    run.keep_aspect = kept
    state = {**run.state_dict(), "size": (8, 6)}
    for data, expected in (
        (FilesOfNoise(), kept),
        (FilesWithOption(), False),
        (FilesWithOption(keep_aspect=True), True),
    ):
        data.load_state_dict(state)
        data.setup("test")
        columns = data.samples["test"].read(0).amax((0, 1))  # the image is black, and the padding is grey
        assert columns.tolist() == ([0, 0, 0, 0, 114, 114] if expected else [0] * 6)
        assert data.preprocessing.keep_aspect is expected
    run.load_state_dict({**state, "keep_aspect": not kept})
    assert run.keep_aspect is kept  # its images are resized already


@pytest.mark.parametrize("size", [(0, 0), (8, 0), (-4, 8)])
def test_image_size_without_area_is_refused(size):
    data = Noise()
    data.image_size = size
    with pytest.raises(UserError, match=r"data\.image_size is \[.*\], but must be a height and a width above 0"):
        data.setup("fit")


def test_missing_training_images_are_named_with_the_splits_that_exist():
    class OnlyTest(Noise):
        root = "photos"

        def load_split(self, split):
            return super().load_split("train") if split == "test" else None

    for mean in (None, [0.5] * 3):
        data = OnlyTest(mean=mean, std=mean)
        with pytest.raises(UserError, match=r"^photos: there are no train images, only test .* --data\.root photos$"):
            data.setup("fit")
            data.train_dataloader()
    with pytest.raises(UserError, match=r"^photos: .*only test"):
        _ = OnlyTest().class_counts
    OnlyTest.root = ""
    with pytest.raises(UserError, match=r"^OnlyTest: .* RUN --data [\w.]+\.OnlyTest$"):
        _ = OnlyTest().class_counts


def test_wrong_size_is_named_with_its_source():
    with pytest.raises(UserError, match=r"the image size for the pretrained weights is \[0, 4\]"):
        Noise().use_size((0, 4), "for the pretrained weights")
