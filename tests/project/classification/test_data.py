"""Where labelled images come from, and what is said when they are not as they should be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.data import Preprocessing
from kit.data.datamodule import evaluated_split
from kit.ground.errors import BrokenFiles, UserError
from project.classification import Digits, ImageFolder, TorchvisionDataset

DIVIDED = {"train": {"a": 6, "b": 4}, "val": {"a": 2}, "test": {"a": 1, "b": 3}}


def ready(data):
    data.setup("fit")
    return data


def names(data, split: str) -> set[str]:
    count = len(data.samples[split])
    return {str(Path(*Path(file).parts[-2:])) for file in data.files(torch.arange(count), split)}


def test_split_of_digits_does_not_change():
    one, other = ready(Digits(seed=0)), ready(Digits(seed=1))
    assert torch.equal(one.samples["test"].images, other.samples["test"].images)
    assert not torch.equal(one.samples["val"].images, other.samples["val"].images)
    sizes = {split: len(samples) for split, samples in one.samples.items()}
    assert sum(sizes.values()) == 1797 and sizes["test"] >= 300
    assert (one.num_classes, one.in_channels) == (10, 1)
    counts = torch.bincount(one.samples["test"].targets)
    assert counts.max() - counts.min() <= 3


def test_digits_equal_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    from kit.data.digits import digits

    images, labels = digits()
    assert images.shape == (1797, 1, 8, 8) and images.max() == 255
    assert torch.equal((images[:, 0] / 255 * 16).round(), torch.from_numpy(load_digits().images).float())
    assert labels.tolist() == load_digits().target.tolist()


def test_folders_with_splits_and_a_class_missing_in_val(image_folder):
    data = ready(ImageFolder(root=str(image_folder(DIVIDED)), image_size=(6, 9)))
    assert data.class_names == ["a", "b"] and data.class_counts == [6, 4] and data.in_channels == 3
    assert {split: len(samples) for split, samples in data.samples.items()} == {"train": 10, "val": 2, "test": 4}
    assert data.samples["test"].targets.tolist() == [0, 1, 1, 1]
    assert data.samples["train"].read(0).shape == (3, 6, 9)


@pytest.mark.parametrize("val", ["valid", "validation", "Val"])
def test_other_names_of_splits(image_folder, val):
    data = ready(ImageFolder(root=str(image_folder({"Train": {"a": 3, "b": 3}, val: {"a": 1, "b": 1}}))))
    assert len(data.samples["val"]) == 2 and data.samples["test"] is None and evaluated_split(data) == "val"


def test_folder_without_splits_is_split_by_seed(image_folder):
    root = str(image_folder({"": {"a": 30, "b": 20}}, grey=True))
    one, same, other = (ready(ImageFolder(root=root, seed=seed)) for seed in (0, 0, 1))
    train, val = names(one, "train"), names(one, "val")
    assert not train & val and len(train | val) == 50
    assert sorted(name[0] for name in val) == ["a"] * 3 + ["b"] * 2
    assert names(same, "val") == val != names(other, "val")
    assert one.in_channels == 1


def test_groups_are_not_split(image_folder):
    root = image_folder({"": {"a": 20, "b": 20}})
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(f"patient{int(path.stem) // 4}_{path.stem}.png"))
    data = ready(ImageFolder(root=str(root), group=r"^(patient\d+)_"))
    train, val = ({Path(n).name.split("_")[0] for n in names(data, part)} for part in ("train", "val"))
    assert val and not train & val and train | val == {f"patient{i}" for i in range(5)}
    with pytest.raises(UserError, match=r"patient0_0\.png: data\.group .* no group"):
        ready(ImageFolder(root=str(root), group="^(nothing)"))
    with pytest.raises(UserError, match=r"data\.group .* is not a regular expression"):
        ready(ImageFolder(root=str(root), group="^(p"))


FOLDERS = [  # what is there: what is said
    ({"train": {"a": 2, "b": 0}}, r"train/b: no images of this class"),
    ({"train": {"a": 2, "b": 2}, "val": {"a": 1, "c": 1}}, r"val/c: training has no class 'c'"),
    ({"train": {"a": 0, "b": 0}}, r"no images in .*train; expected .*CLASS"),
    ({"train": {"a": 2}}, r"train: 'a' is the only class"),
    ({"train": {}}, r"not recognised.*expected .*train/CLASS"),
]


@pytest.mark.parametrize(("counts", "said"), FOLDERS)
def test_invalid_folders_are_refused(image_folder, counts, said):
    root = image_folder(counts)
    for split in counts:
        (root / split).mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=said):
        ready(ImageFolder(root=str(root)))


ONE_CLASS = [  # the files in `root`, and what the message names
    (["cat/1.jpg", "cat/2.jpg"], "root: 'cat' is the only class"),
    (["animals/cat/1.jpg"], "root/animals: 'cat' is the only class"),
    (["1.jpg"], "root: .*not recognised.*expected .*root/labels.csv"),
    (["train/1.jpg", "bus/1.jpg"], "root: .*not recognised.*expected root/train/CLASS.* are splits"),
]


@pytest.mark.parametrize(("files", "message"), ONE_CLASS)
def test_fewer_than_two_classes_are_refused(files, message):
    for file in files:
        Path("root", file).parent.mkdir(parents=True, exist_ok=True)
        Path("root", file).touch()
    with pytest.raises(UserError, match=f"^{message}[^\n]*$"):
        _ = ImageFolder("root").class_names


def test_empty_class_in_val_is_allowed(image_folder):
    data = ready(ImageFolder(root=str(image_folder({"train": {"a": 3, "b": 3}, "val": {"a": 2, "b": 0}}))))
    assert data.samples["val"].targets.tolist() == [0, 0]


def test_missing_folder_is_named():
    with pytest.raises(UserError, match=r"nowhere.*--data\.root"):
        ImageFolder(root="nowhere")


def table(root: Path, *lines: str) -> str:
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(root)


def test_csv_with_splits_and_groups(image_folder):
    root = image_folder({"": {"a": 6, "b": 6}})
    rows = [f"{c}/{i}.png,{c},{'test' if i == 5 else ''},{i % 3}" for c in "ab" for i in range(6)]
    data = ImageFolder(table(root, "path,label,split,group", *rows), "table", (4, 5))
    assert data.class_names == ["a", "b"] and data.class_counts == [5, 5]
    assert ready(data).class_counts == [5, 5]  # also when a part has been split off
    assert names(data, "test") == {"a/5.png", "b/5.png"}
    groups = [{int(Path(name).stem) % 3 for name in names(data, part)} for part in ("train", "val")]
    assert not groups[0] & groups[1] and groups[1]


CSV = [  # header and rows: what is said
    (["path,class", "a/0.png,a"], r"labels\.csv:1: .* label"),
    (["path,label", "a/0.png,a", "a/1.png,"], r"labels\.csv:3: a row without"),
    (["path,label,split", "a/0.png,a,train", "a/1.png,a,tset"], r"labels\.csv:3: split 'tset'"),
    (["path,label,split", "a/0.png,a,train", "a/1.png,b,train", "a/1.png,c,val"], r"labels\.csv:4: .* no class 'c'"),
    (["path,label,group", "a/0.png,a,1", "a/1.png,a,"], r"labels\.csv:3: a row without a group"),
    (["path,label", "a/0.png,a", "a/1.png,a"], r"labels\.csv: 'a' is the only class"),
    (["path,label"], r"labels\.csv: no usable rows"),
]


@pytest.mark.parametrize(("lines", "said"), CSV)
def test_mistakes_in_csv_name_file_and_line(image_folder, lines, said):
    root = image_folder({"": {"a": 2}})
    with pytest.raises(UserError, match=said):
        ready(ImageFolder(table(root, *lines), "table"))


def test_torchvision_data_in_memory_and_from_images():
    from torchvision.datasets import FakeData

    class Fake(FakeData):
        """Splits by `train`, no names of classes."""

        def __init__(self, root: str, train: bool):
            super().__init__(40 if train else 10, (3, 8, 6), 4, random_offset=int(train))

    data = ready(TorchvisionDataset(Fake, image_size=(5, 7)))
    assert data.class_names == ["0", "1", "2", "3"] and data.in_channels == 3
    assert (len(data.samples["train"]) + len(data.samples["val"]), len(data.samples["test"])) == (40, 10)
    fetched = torch.stack(data.samples["test"].fetch([0, 3]))
    assert fetched.shape == (2, 3, 5, 7)
    ram = ready(TorchvisionDataset(Fake, image_size=(5, 7), cache="ram"))
    assert torch.equal(torch.stack(ram.samples["test"].fetch([0, 3])), fetched)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_argument(image_folder, channels):
    data = ready(ImageFolder(root=str(image_folder(DIVIDED)), channels=channels))
    assert data.in_channels == channels == len(data.mean)
    assert next(iter(data.test_dataloader())).images.shape[1] == channels


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_too_many_broken_files_stop_the_run(image_folder, cache, workers):
    root = image_folder({"train": {"a": 9, "b": 9}})
    for path in (root / "train" / "a").glob("[1-8].png"):
        path.write_bytes(path.read_bytes()[:90])
    data = ImageFolder(
        root=str(root), cache=cache, num_workers=int(workers), batch_size=4, mean=[0.5] * 3, std=[1.0] * 3
    )
    with pytest.raises(BrokenFiles, match=r"train/a/[1-8]\.png"):
        ready(data)
        list(data.train_dataloader())


def test_run_on_all_kinds_of_images(image_folder, repository, fit):
    root = image_folder({"train": {"a": 6, "b": 6}, "test": {"a": 2, "b": 2}}, size=(20, 30))
    odd = {"L": 9, "LA": (9, 9), "RGBA": (1, 2, 3, 9), "P": 1, "1": 1, "CMYK": (1, 2, 3, 4)}
    for mode, colour in odd.items():
        Image.new(mode, (30, 20), colour).save(root / "train" / "a" / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
    Image.fromarray(np.full((20, 30), 40000, np.uint16)).save(root / "train" / "b" / "deep.png")
    config = str(repository / "configs" / "classification_folder.yaml")
    run = fit("--config", config, "--data.root", str(root), "--data.batch_size", "4", "--trainer.max_epochs", "1")
    assert (run / "results.json").is_file()


def test_spaces_around_csv_cells_are_ignored(image_folder):
    root = image_folder({"": {"cat": 2, "dog": 2}})
    rows = ["cat/0.png,cat ", " cat/1.png , cat", "dog/0.png,dog", "dog/1.png,\tdog "]
    data = ImageFolder(table(root, " path, label ", *rows), "table", (4, 5))
    assert data.class_names == ["cat", "dog"] and data.class_counts == [2, 2]
    with pytest.raises(UserError, match=r"labels\.csv:2: a row with more cells than the header.* commas"):
        ready(ImageFolder(table(root, "path,label", "cat/0.png,a cat, sitting"), "table"))


def test_csv_of_another_machine(image_folder, capsys):
    """Excel's separator and encoding, paths of Windows, and other words for the splits."""
    root = image_folder({"": {"a": 4, "b": 4}})
    rows = [
        f"C:\\me\\{c}\\{i}.PNG;{c};{split}" for c in "ab" for i, split in enumerate(["Training", "", "valid", "test"])
    ]
    (root / "labels.csv").write_text("\r\n".join(["path;label;split", *rows]), encoding="utf-16")
    data = ready(ImageFolder(str(root), "table", (4, 5)))
    assert {split: len(samples) for split, samples in data.samples.items()} == {"train": 4, "val": 2, "test": 2}
    assert names(data, "val") == {"a/2.png", "b/2.png"}
    assert len([line for line in capsys.readouterr().out.splitlines() if "8 images" in line]) == 1


def test_too_large_table_is_refused() -> None:
    Path("labels.csv").write_text(f"path,label\na.png,cat\nb.png,{'x' * 200_000}\n")
    with pytest.raises(UserError, match=r"labels\.csv:3: .*field"):
        _ = ImageFolder(".", "table").class_names
    Path("labels.csv").write_bytes("path,label\na.png,chaît\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"labels\.csv:2: .*UTF-8"):
        _ = ImageFolder(".", "table").class_names


def test_levels_come_from_train_and_are_in_the_checkpoint(capsys):
    for split, values in (("train", (0, 4000)), ("val", (5000, 1000))):
        for name in "ab":
            Path("root", split, name).mkdir(parents=True)
            pixels = np.full((4, 6), values[name == "b"], np.uint16)
            Image.fromarray(pixels).save(Path("root", split, name, "1.png"))
    data = ImageFolder(root="root", image_size=(4, 6), cache="ram")
    data.setup("fit")
    assert "4,095 white" in capsys.readouterr().out
    assert [int(data.samples["val"].read(i).amax()) for i in (0, 1)] == [255, round(1000 / 4095 * 255)]
    preprocessing = Preprocessing.from_state(data.state_dict())
    assert int(preprocessing.read("root/val/b/1.png")[0].amax()) == round(1000 / 4095 * 255)
    other = ImageFolder(root="root", image_size=(4, 6))
    other.load_state_dict(data.state_dict() | {"levels": (0.0, 65535.0)})
    other.setup("test")
    assert int(other.samples["val"].read(1).amax()) == round(1000 / 65535 * 255)
