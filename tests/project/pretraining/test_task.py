"""Pretraining: known values of the views, the loss, the metrics and the k-means, and the commands on tiny images."""

from pathlib import Path

import pytest
import torch
from refused import assert_refused

from kit.cli import verbs
from kit.data import Batch
from kit.exporting import export
from kit.ground.errors import UserError
from kit.ground.yaml_files import read_yaml
from kit.prediction import predict
from kit.training.weights import hash_tensors
from project.pretraining import Encoder, ImageFolder, Pretrainer, RandomViews
from project.pretraining.model import gaussian_distance, views_loss
from project.pretraining.task import collapse_message

CONFIG = str(Path(__file__).parents[3] / "configs" / "pretraining_folder.yaml")
SAME = {"scale": (1.0, 1.0), "angle_deg": 0.0, "mirror": False, "brightness": 0.0, "contrast": 0.0}
SAME |= {"saturation": 0.0, "tint": 0.0, "grey": 0.0}


def test_unchanged_views_are_the_resized_images(monkeypatch):
    monkeypatch.setattr("project.pretraining.views.ASPECT", 1.0)
    images = torch.randn(2, 3, 12, 20)
    views = RandomViews(6, **SAME)(images)
    assert torch.allclose(RandomViews(12, **SAME)(images[..., :12]), images[..., :12], atol=1e-5)
    assert views.shape == (2, 3, 6, 6)
    mirrored = RandomViews(12, **SAME | {"mirror": True})(images[..., :12].repeat(8, 1, 1, 1))
    same = [torch.allclose(view, images[k % 2, :, :, :12], atol=1e-5) for k, view in enumerate(mirrored)]
    flipped = [torch.allclose(view, images[k % 2, :, :, :12].flip(2), atol=1e-5) for k, view in enumerate(mirrored)]
    assert all(a != b for a, b in zip(same, flipped, strict=True))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_are_cut_from_the_image_and_repeated_by_a_generator(channels):
    images = torch.linspace(0, 1, 16).expand(5, channels, 10, 16).contiguous()
    options = SAME | {"scale": (0.1, 0.5)}
    first, again = (RandomViews(8, **options)(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.min() >= 0 and first.max() <= 1
    spans = first.amax((1, 2, 3)) - first.amin((1, 2, 3))
    assert spans.max() < 0.9 and len(spans.unique()) == 5
    assert RandomViews(8)(images).shape == (5, channels, 8, 8)


def test_grey_views_have_equal_channels():
    view = RandomViews(8, **SAME | {"grey": 1.0})(torch.randn(3, 3, 8, 8))
    assert torch.allclose(view, view.mean(1, keepdim=True).expand_as(view), atol=1e-6)


def test_the_loss_is_low_only_for_equal_views_that_are_normally_distributed():
    torch.manual_seed(0)
    normal, directions = torch.randn(1, 400, 6), torch.nn.functional.normalize(torch.randn(6, 50), dim=0)
    low = gaussian_distance(normal, directions)
    assert low < 2  # of a normal distribution, it does not grow with the number of images
    for other in (torch.zeros(1, 400, 6), 3 * normal, normal + 1, normal.sign() * torch.ones(6) * 2):
        assert gaussian_distance(other, directions) > 10 * low
    equal, different = normal.repeat(3, 1, 1), torch.randn(3, 400, 6)
    assert float(views_loss(equal, 0.0, directions)) == pytest.approx(0, abs=1e-9)
    assert float(views_loss(different, 0.0, directions)) == pytest.approx(2 / 3, rel=0.1)
    assert torch.allclose(views_loss(equal, 1.0, directions), low)


def test_the_loss_is_computed_in_float32_under_autocast():
    values, directions = torch.randn(2, 30, 6), torch.nn.functional.normalize(torch.randn(6, 50), dim=0)
    expected = views_loss(values, 0.5, directions)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views_loss(values, 0.5, directions), expected)
        assert views_loss(values.bfloat16(), 0.5, directions).dtype == torch.float


def test_the_distance_of_a_part_has_the_weight_of_the_batch():
    made = task(weight=1.0, projection_size=8).eval()  # batch normalisation would depend on the part
    batch = Batch(torch.randn(12, 3, 10, 12), torch.zeros(12, dtype=torch.long), torch.arange(12))
    made.training_step(batch, 0)
    views = made._views_of(batch.images[:3])
    loss, count = made.loss_terms(Batch(views, batch.targets[:3], batch.keys[:3]))
    projections = made._project(views).transpose(0, 1)
    assert count == 3 and torch.allclose(loss / 3, 4 * gaussian_distance(projections, made.step_directions))


def test_k_means_sets_all_convolutions():
    nets, images = [Encoder(2, widths=[5, 7], stem_stride=2) for _ in range(2)], torch.randn(30, 2, 12, 10)
    for net in nets:
        net.cluster(images)
    for one, other in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-4)


def test_collapse():
    assert collapse_message(30.0, 0.0) == collapse_message(30.0, 150.0) == collapse_message(2.0, 2.0) == ""
    assert "effective rank 1.2); give" in collapse_message(1.2, 0.0)
    assert "effective rank 5.0; the highest before was 150.0" in collapse_message(5.0, 150.0)


def task(**options) -> Pretrainer:
    made = Pretrainer(lambda **sizes: Encoder(widths=[8], depth=1, **sizes), 3, views=RandomViews(8), **options)
    made.log = lambda *_, **__: None
    return made


def test_training_overfits_a_batch_and_evaluation_is_repeatable():
    torch.manual_seed(0)
    made = task(weight=0.1, projection_size=8)
    batch = Batch(torch.randn(16, 3, 10, 12), torch.zeros(16, dtype=torch.long), torch.arange(16))
    optimizer, losses = torch.optim.Adam(made.parameters(), 0.01), []
    for step in range(40):
        loss = made.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    made.eval()
    first = made.evaluate(batch)
    assert first.shape == (16, 8 + 4 * 8) and torch.equal(first, made.evaluate(batch))
    part = made.evaluate(Batch(batch.images[4:9], batch.targets[4:9], batch.keys[4:9]))
    assert torch.allclose(part, first[4:9], atol=1e-5)  # the size of the batch changes nothing
    evaluation = made.evaluation("val")
    evaluation.update(batch.keys, first, batch.targets)
    assert set(evaluation.compute()) == {"loss", "effective_rank"}  # there is one class


def test_folders(tiny):
    tiny.photos(Path("flat"), 3)
    tiny.photos(Path("deep/one/more"), 3)
    tiny.photos(Path("classes/train/a"), 4)
    tiny.photos(Path("classes/train/b"), 4)
    tiny.photos(Path("classes/test/a"), 2)
    for root, names in {"flat": ["image"], "deep": ["image"], "classes": ["a", "b"]}.items():
        data = ImageFolder(root)
        data.setup("fit")
        assert data.class_names == names and data.input_size == (32, 40)  # multiples of 8
    assert len(data.samples["test"]) == 2 and not data.samples["test"].targets.any()
    data = ImageFolder("classes")
    data.class_names = ["image"]  # as in a test of a run on images without classes
    data.setup("fit")
    assert len(data.samples["train"]) + len(data.samples["val"]) == 8
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"no images in empty .*--data\.root"):
        ImageFolder("empty")


SHORT = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "1", "--data.num_workers", "0",
         "--model.net.widths", "[4, 6]"]  # fmt: skip


@pytest.fixture
def run(fit, tiny, capsys) -> Path:
    """A run on images without classes."""
    tiny.photos(Path("unlabelled"), 40)
    return fit("--config", CONFIG, "--data.root", "unlabelled", "--data.batch_size", "8", *SHORT)


def test_commands(run, tiny, capsys):
    printed = capsys.readouterr().out
    assert "val/effective_rank" in printed and "knn_accuracy" not in printed
    tiny.photos(Path("labelled/a"), 8)
    tiny.photos(Path("labelled/b"), 8)
    verbs.test([str(run), "--data.root", "labelled"])
    assert "test/loss" in capsys.readouterr().out
    with pytest.raises(UserError, match="Pretrainer has no `Predictions`"):
        predict([str(run), "labelled"])
    with pytest.raises(UserError, match="Pretrainer"):
        export([str(run)])


# only: classification
def test_a_classifier_starts_from_the_run(run, fit, tiny, capsys):
    tiny.photos(Path("labelled/a"), 8)
    tiny.photos(Path("labelled/b"), 8)
    config = CONFIG.replace("pretraining_folder", "classification_pretrained")
    classifier = fit("--config", config, "--data.root", "labelled", "--model.net.weights", str(run), *SHORT,
                     "--model.optimizer.lr", "0")  # fmt: skip
    assert "fine_tuning: head fitted on the features of" in capsys.readouterr().out
    start, end = (torch.load(one / "checkpoints" / "best.ckpt", weights_only=True) for one in (run, classifier))
    kernels = {name for name in start["state_dict"] if "trunk" in name and name.endswith("0.weight")}
    assert len(kernels) == 4
    assert all(torch.equal(start["state_dict"][name], end["state_dict"][name]) for name in kernels)


# end only


def test_pretraining_goes_on_from_a_run_without_k_means(run, fit, capsys, monkeypatch):
    monkeypatch.delattr(Encoder, "cluster")
    capsys.readouterr()
    second = fit("--config", CONFIG, "--data.root", "unlabelled", "--data.batch_size", "8", *SHORT,
                 "--model.net.weights", str(run), "--model.optimizer.lr", "0")  # fmt: skip
    assert f"weights: {run}/checkpoints/best.ckpt (no licence stated), 24 of 24 tensors" in capsys.readouterr().out
    start, end = (torch.load(one / "checkpoints" / "best.ckpt", weights_only=True) for one in (run, second))
    kernels = {name for name in start["state_dict"] if name.startswith("net.trunk") and name.endswith("0.weight")}
    assert len(kernels) == 4
    assert all(torch.equal(start["state_dict"][name], end["state_dict"][name]) for name in kernels)
    assert read_yaml(second / "config.yaml")["weights_sha256"] == hash_tensors(start["state_dict"])


# only: style
def test_style_features_of_the_run(run, fit):
    fit("--config", CONFIG.replace("pretraining_folder", "style"), "--data.root", "unlabelled", "--data.image_size",
        "[32, 40]", "--model.style", "unlabelled/0.png", "--model.features.run", str(run), "--model.net.widths", "[4]",
        "--data.num_workers", "0", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2")  # fmt: skip


# end only


def test_a_collapse_is_printed(fit, tiny, capsys, monkeypatch):
    monkeypatch.setattr("kit.labels.features.effective_rank", lambda features: 1.5)
    tiny.photos(Path("photos"), 210, (16, 16))
    fit("--config", CONFIG, "--data.root", "photos", "--model.net.widths", "[4]", "--trainer.max_steps", "2",
        "--trainer.val_check_interval", "1", "--model.net.depth", "1", "--model.clustered_images", "0",
        "--model.views.size", "8", "--data.num_workers", "0")  # fmt: skip
    assert "pretraining: the features have collapsed" in capsys.readouterr().out


def test_clustered_weights_are_the_first_snapshot_and_a_resumed_run_keeps_its_own(fit, tiny, monkeypatch):
    snapshots, clusterings = [], []

    def take(self, trainer, pl_module):
        snapshots.append((len(clusterings), pl_module.net.trunk.levels[0][0][0].weight.detach().clone()))

    def cluster(self, images):
        clusterings.append(images.shape)
        torch.nn.init.constant_(self.trunk.levels[0][0][0].weight, 0.125)

    monkeypatch.setattr("kit.safeguards.nan.guard.Snapshots.reset_to_current", take)
    monkeypatch.setattr(Encoder, "cluster", cluster)
    monkeypatch.setattr("project.pretraining.task.MIN_IMAGES", 2)
    tiny.photos(Path("photos"), 40)
    run = fit("--config", CONFIG, "--data.root", "photos", "--data.batch_size", "8", *SHORT,
              "--model.clustered_images", "9")  # fmt: skip
    assert clusterings == [(9, 3, 32, 40)]
    assert snapshots[0][0] == 1 and (snapshots[0][1] == 0.125).all()
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["highest_rank"] > 0
    fit("--resume", str(run), "--trainer.max_steps", "3")
    assert len(clusterings) == 1


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"num_views is 1, .* at least 2"):
        task(num_views=1)
    assert_refused(Pretrainer, weight=2, num_views=0, hidden=0, projection_size=0, clustered_images=-1)
    assert_refused(RandomViews, size=0, angle_deg=-1, brightness=-1, grey=2)
