"""Each net becomes a file, with images of several sizes, grey and coloured."""

import shutil
from functools import partial

import pytest
import torch
from exports import difference, pictures, preprocessing, settled, written
from PIL import Image
from readme_programs import example

from kit.exporting import agreement, export
from kit.zoo import TimmNet, TorchvisionNet
from project.classification import CNN, Classifier, TextbookCNN

NETS = {
    "CNN": partial(CNN, widths=[4, 8], stem_stride=2),
    "TextbookCNN": TextbookCNN,
    "resnet18": TorchvisionNet,
    "mobilenet_v3_small": partial(TorchvisionNet, name="mobilenet_v3_small"),
    "timm resnet10t": partial(TimmNet, name="resnet10t"),
    "timm vit": partial(TimmNet, name="test_vit"),
}


def classifier(name: str, channels: int = 3) -> Classifier:
    torch.manual_seed(0)
    if name.startswith("timm"):
        pytest.importorskip("timm")
    return Classifier(NETS[name], 3, channels, class_names=["cat", "dog", "owl"])


QUICK = [("CNN", 3, False), ("CNN", 1, True), ("TextbookCNN", 3, False), ("timm vit", 3, False)]
ALL = [(name, *kind) for name in NETS for kind in ((3, False), (1, True))]


@pytest.mark.parametrize(
    ("name", "channels", "fitted"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in ALL],
)
def test_exported_file_agrees_with_pytorch(name, channels, fitted):
    task, size, images = classifier(name, channels), (48, 64), pictures(channels)
    if name == "timm vit":  # made for one size
        size, images = (160, 160), pictures(channels, [(80, 40), (160, 160), (20, 32)])
    assert difference(settled(task, channels, size), preprocessing(channels, size, fitted), images=images) < 1e-4


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_program_of_the_docs(channels):
    model, _, file = written(classifier("CNN", channels), preprocessing(channels))
    image = pictures(channels)[2]
    name, probability = example(file, image)[0].split()
    found = model.predict([image])[0]
    assert name == found.label and float(probability) == pytest.approx(found.probability, abs=1e-4)


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_program_of_the_docs_reads_images_as_predict_does(channels):
    """Transparent ones, with other colours below, and those of 16 bits, most of whose values are above 255."""
    model, _, file = written(classifier("CNN", channels), preprocessing(channels))
    grey = pictures(1)[2][0].numpy()
    colours = Image.fromarray(pictures(3)[2].permute(1, 2, 0).numpy())
    colours.putalpha(Image.fromarray(255 - grey))
    for image in (colours, colours.convert("LA"), Image.fromarray(grey.astype("uint16") * 129)):
        name, probability = example(file, image)[0].split()
        found = model.predict(["photo.png"])[0]
        assert name == found.label and float(probability) == pytest.approx(found.probability, abs=5e-6)
        blunt = model.predict([image.convert("RGB")])[0].probability
        assert abs(blunt - found.probability) > 1e-5  # the lines that read it are needed


def test_export_of_a_run_compares_its_images(fit, image_folder, repository, capsys):
    """In their own size, whatever the net gets."""
    root = image_folder({"train": {"a": 8, "b": 8}, "test": {"a": 2, "b": 1}}, size=(30, 44))
    config = str(repository / "configs" / "classification_folder.yaml")
    small = [
        "--data.image_size",
        "[16, 16]",
        "--data.augment",
        "[]",
        "--data.cache",
        "none",
        "--model.net.widths",
        "[4]",
    ]
    run = fit("--config", config, "--data.root", str(root), "--trainer.max_epochs", "1", *small)
    images, _ = agreement.read_images(run / "checkpoints" / "best.ckpt", preprocessing(), 100)
    assert [image.shape for image in images] == [(3, 30, 44)] * 3
    capsys.readouterr()
    export([str(run)])
    assert "0.005 allowed, on 3 images of test" in capsys.readouterr().out
    shutil.rmtree(root)
    export([str(run)])
    said = capsys.readouterr()
    assert "on 3 images of noise\n" in said.out
    assert said.err.startswith("warning: compared on noise, since the run's data cannot be read (")
