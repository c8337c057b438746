import json
import re
from pathlib import Path

import pytest
import torch
from refused import assert_refused
from score_terms import score_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.cli import verbs
from kit.data import Batch
from kit.ground.errors import UserError
from project.generation import Euler, Generator, UNet
from project.generation.flow import FlowBatch

CONFIG = str(Path(__file__).parents[3] / "configs" / "generation.yaml")
SHORT = ["--config", CONFIG, "--trainer.limit_train_batches", "4", "--trainer.limit_test_batches", "2",
         "--trainer.limit_val_batches", "2", "--trainer.check_val_every_n_epoch", "1", "--model.net.widths", "[8]",
         "--data.batch_size", "20", "--model.solver.steps", "2", "--model.samples", "30"]  # fmt: skip


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    monkeypatch.setattr("kit.samples.judge.MIN_STEPS", 5)


def generator(**options) -> Generator:
    torch.manual_seed(0)
    return Generator(lambda **sizes: UNet(widths=[8, 16], **sizes), 3, 2, **options)


class Exact(torch.nn.Module):
    """The velocity to images of a shade a class, from wherever it is; to grey for any class."""

    def __init__(self, **_):
        super().__init__()
        self.asked = []

    def forward(self, points, times, classes):
        self.asked.append(classes)
        shade = torch.tensor([-1.0, -0.5, 0.5, 0.0])[classes].view(-1, 1, 1, 1)
        return (shade - points) / (1 - times).view(-1, 1, 1, 1)


def batch(count: int, size: tuple[int, int] = (4, 5)) -> Batch:
    keys = torch.arange(count)
    return Batch(torch.rand(count, 2, *size) * 2 - 1, keys % 3, keys)


def test_targets_are_the_velocities_from_noise_to_image(monkeypatch):
    task, given = Generator(Exact, 3, 2, unlabelled=0.5), batch(2000)
    flows, task.log = [], lambda *_, **__: None
    whole = task.loss_terms
    monkeypatch.setattr(task, "loss_terms", lambda flow: flows.append(flow) or whole(flow))
    loss = task.training_step(given, 0)
    flow = flows[0]
    share = flow.times.view(-1, 1, 1, 1)
    assert torch.allclose(flow.points + (1 - share) * flow.velocities, given.images, atol=1e-5)
    start = given.images - flow.velocities
    assert abs(float(start.mean())) < 0.02 and abs(float(start.std()) - 1) < 0.02
    spread = flow.times.logit()
    assert abs(float(spread.mean())) < 0.08 and abs(float(spread.std()) - 1) < 0.06
    withheld = flow.classes == 3
    assert abs(float(withheld.float().mean()) - 0.5) < 0.05
    assert torch.equal(flow.classes[~withheld], given.targets[~withheld])
    found = task(flow.points, flow.times, flow.classes)
    assert torch.allclose(loss, (found - flow.velocities).square().mean())


def test_loss_terms_add_up_over_the_parts_of_a_batch():
    task = generator()
    torch.nn.init.normal_(task.net.head[2].weight)
    shape = 5, 2, 4, 6
    flow = FlowBatch(torch.randn(shape), torch.rand(5), torch.tensor([0, 1, 3, 2, 0]), torch.randn(shape))
    parts = [FlowBatch(*(field[keys] for field in flow)) for keys in torch.arange(5).split([1, 4])]
    sums, weights = (sum(terms) for terms in zip(*map(task.loss_terms, parts), strict=True))
    wanted = (task(*flow[:3]) - flow.velocities).square().mean()
    assert torch.allclose(sums / weights, wanted)


def test_evaluations_use_the_same_noise():
    task, given = generator().eval(), batch(50)
    torch.nn.init.normal_(task.net.head[2].weight)
    whole = task.evaluate(given)
    torch.randn(3)
    parts = [task.evaluate(Batch(*(field[keys] for field in given))) for keys in torch.arange(50).split([7, 43, 0])]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-4)
    assert not torch.allclose(task.evaluate(given._replace(keys=given.keys + 1)), whole, atol=1e-2)


def test_images_with_large_keys_have_different_times(monkeypatch):
    task, times = generator(), []
    monkeypatch.setattr(task, "_errors", lambda flow: times.append(flow.times) or flow.times)
    task.evaluate(batch(50)._replace(keys=torch.arange(50) + 1_000_000))
    steps = times[0].sort().values.diff()
    assert float(steps.min()) > 0.005 and float(steps.max()) < 0.04  # the mean is 0.02


def test_score_is_the_explained_share():
    there, missed = torch.tensor([2.0, 1.0, 3.0]), torch.tensor([0.5, 0.25, 0.75])
    evaluation = generator().evaluation("val")
    evaluation.update(torch.arange(3), torch.stack([there, missed], 1), None)
    assert evaluation.score() == pytest.approx(0.75) == score_of(evaluation.score_terms())


def test_samples_are_the_end_of_the_path():
    task = Generator(Exact, 3, 2, solver=Euler(4))
    made = task.sample(torch.tensor([0, 1, 2, 1]), range(4), (3, 5), batch_size=3)
    assert made.shape == (4, 2, 3, 5) and made.dtype == torch.uint8
    assert [image.unique().tolist() for image in made] == [[0], [64], [191], [64]]


def test_guidance_extrapolates_beyond_the_class():
    """Twice: from grey (0) to the class (0.5) and as far again."""
    task = Generator(Exact, 3, 2, solver=Euler(4), guidance=2)
    assert task.sample(torch.tensor([2]), [0], (3, 5)).unique().tolist() == [255]
    asked = torch.cat(task.net.asked)
    assert asked.tolist() == [2, 3] * 4
    task.net.asked.clear()
    assert task.sample(torch.tensor([2]), [0], (3, 5), sampler=task.make_sampler(1)).unique().tolist() == [191]
    assert torch.cat(task.net.asked).tolist() == [2] * 4


def test_sample_depends_on_its_seed_only():
    task = generator().eval()
    torch.nn.init.normal_(task.net.head[2].weight)
    classes, seeds = torch.arange(9) % 3, [5, 1, 2, 3, 4, 9, 8, 7, 6]
    whole = task.sample(classes, seeds, (6, 7))
    assert whole.float().std() > 10
    for size in (1, 4):
        assert torch.equal(task.sample(classes, seeds, (6, 7), batch_size=size), whole)
    assert torch.equal(task.sample(classes[2:4], seeds[2:4], (6, 7)), whole[2:4])


@pytest.mark.slow
def test_overfits_one_batch():
    """Of two images it makes these two."""
    torch.manual_seed(0)
    task = Generator(lambda **sizes: UNet(widths=[16], **sizes), 2, 1, unlabelled=0.0)
    task.log = lambda *_, **__: None
    images = torch.sign(torch.randn(2, 1, 4, 6)) * 0.8
    given = Batch(images.repeat(8, 1, 1, 1), torch.arange(2).repeat(8), torch.arange(16))
    optimizer = torch.optim.Adam(task.parameters(), 0.005)
    for step in range(200):
        loss = task.training_step(given, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = task.sample(torch.tensor([0, 1] * 4), range(8), (4, 6)).float() / 127.5 - 1
    assert (made - images.repeat(4, 1, 1, 1)).abs().mean() < 0.1


def test_invalid_arguments_are_refused():
    assert_refused(Generator, unlabelled=1, guidance="inf")
    with pytest.raises(UserError, match=r"model\.samples is 1, but must be at least 2"):
        generator(samples=1)


def test_guidance_of_a_net_that_always_sees_the_class_is_refused():
    task = generator(unlabelled=0.0)
    task.setup("fit")
    with pytest.raises(UserError, match=r"guidance 2 needs .* model\.unlabelled above 0"):
        task.make_sampler(2)
    with pytest.raises(UserError, match=r"guidance 2 needs .* model\.unlabelled above 0"):
        generator(unlabelled=0.0, guidance=2).setup("fit")  # before training


def test_report_equals_a_later_test(fit, capsys):
    run = fit(*SHORT, "--trainer.max_epochs", "2")
    said = capsys.readouterr().out
    assert len(re.findall("training a classifier that judges samples", said)) == 1
    assert re.search(r"^verdict: underfits", said, re.MULTILINE)  # in eight steps it learned next to nothing
    results = json.loads((run / "results.json").read_text())
    keys = {
        "loss",
        "explained",
        "judge_accuracy",
        "agreement",
        "nearest_distance",
        "nearest_distance_real_images",
    }
    keys |= {f"frechet_distance{of_what}" for of_what in ("", "_train_images", "_noise")}
    assert {key for key in results if key.startswith("test/")} == {f"test/{key}" for key in keys}
    assert not re.search(r"^class ", said, re.MULTILINE)  # none of these keys is a metric of a class
    assert results["test/frechet_distance_train_images"] < results["test/frechet_distance_noise"]
    assert 0 <= results["test/agreement"] <= 1 and results["test/nearest_distance"] > 0
    images = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert [image.step for image in images.Images("samples/first_batch")] == [0]
    assert images.Images("samples/generated")[-1].step == 8 and len(images.Images("samples/nearest")) == 1
    verbs.test([str(run), "--trainer.limit_test_batches", "2"])
    again = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert {key: float(value) for key, value in again.items()} == pytest.approx(
        {key: value for key, value in results.items() if key.startswith("test/") and key.count("/") == 1}, abs=1e-4
    )


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one(fit):
    long = ["--trainer.max_epochs", "3", "--model.schedule", "null"]
    whole = fit(*SHORT, *long, "--name", "whole")
    half = fit(*SHORT, "--trainer.max_epochs", "2", "--model.schedule", "null", "--name", "half")
    fit("--resume", str(half), "--trainer.max_epochs", "3")
    one, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, half))
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())
    assert one["global_step"] == other["global_step"] == 12
    results = [json.loads((run / "results.json").read_text()) for run in (whole, half)]
    assert results[0]["test/loss"] == results[1]["test/loss"]
    assert results[0]["test/frechet_distance"] == results[1]["test/frechet_distance"]


@pytest.mark.slow
def test_test_on_other_images_without_splits(fit, image_folder, capsys):
    one = image_folder({"train": {"a": 20, "b": 20}}, size=(8, 9))
    run = fit(*SHORT, "--trainer.max_epochs", "1", "--data", "project.generation.ImageFolder",
              "--data.root", str(one), "--data.image_size", "[8, 9]", "--data.batch_size", "5")  # fmt: skip
    for name in "ab":
        Path("other", name).mkdir(parents=True)
        for file in (one / "train" / name).iterdir():
            Path("other", name, file.name).write_bytes(file.read_bytes())
    capsys.readouterr()
    with pytest.warns(UserWarning, match="samples are not compared"):
        verbs.test([str(run), "--data.root", "other"])
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines() if line.startswith("test/")} == {"test/loss", "test/explained"}


@pytest.mark.slow
def test_images_of_one_class_have_no_frechet_distance(fit, image_folder, capsys):
    root = image_folder({"train": {"all": 30}, "test": {"all": 6}}, size=(8, 9))
    run = fit(*SHORT, "--trainer.max_epochs", "1", "--data", "project.generation.ImageFolder",
              "--data.root", str(root), "--data.image_size", "[8, 9]", "--data.batch_size", "5")  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert {key for key in results if key.startswith("test/")} == {
        "test/loss", "test/explained", "test/nearest_distance", "test/nearest_distance_real_images"}  # fmt: skip
    assert "judges samples" not in capsys.readouterr().out


@pytest.mark.slow
def test_generated_images_are_not_logged_without_the_dashboard(fit, monkeypatch):
    draw, calls = Generator.draw_generated, []
    monkeypatch.setattr(Generator, "draw_generated", lambda *args: calls.append(args) or draw(*args))
    run = fit(*SHORT, "--trainer.max_epochs", "1", "--dashboard.enabled", "false")
    assert len(calls) == 1  # for report.html
    assert "samples/generated" not in EventAccumulator(str(run)).Reload().Tags()["images"]


def test_drawing_uses_no_random_numbers_of_the_run():
    task, before = generator(class_names=["cat", "dog", "owl"]), torch.random.get_rng_state()
    drawn = task.draw_generated((6, 7))
    assert drawn.dtype == torch.uint8 and drawn.shape[0] == 3 and torch.equal(drawn, task.draw_generated((6, 7)))
    assert torch.equal(torch.random.get_rng_state(), before)
