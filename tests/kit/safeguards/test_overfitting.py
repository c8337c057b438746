"""The measurement of training images agrees with one by hand, and changes nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_task
import torch
import yaml
from refused import assert_refused
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.cli import verbs
from kit.safeguards import EarlyStopping, Overfitting
from kit.training import EMA

PARTS = Path(__file__).resolve().parent.parent / "parts"
TINY = {
    "trainer": {"max_epochs": 3, "accelerator": "cpu"},
    "model": {"class_path": "tiny_task.Judged", "init_args": {"lr": 0.1}},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8, "train": 400, "val": 45}},
}
RUN = Path("runs/tiny/version_0")
FEW = ["--data.train", "80"]  # 10 steps an epoch


@pytest.fixture(autouse=True)
def config() -> None:
    Path("configs").mkdir()
    Path("configs/tiny.yaml").write_text(yaml.safe_dump(TINY))


def results(run: Path = RUN) -> dict[str, float]:
    return json.loads((run / "results.json").read_text())


def by_hand(run: Path = RUN, train: int = 400, val: int = 45, model: type = tiny_task.Judged) -> tuple[float, float]:
    """Accuracy of the best checkpoint on the part of the training images, and on the validation images."""
    data = tiny_task.Shades(train=train, val=val)
    data.setup("fit")
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    task = model(3, 3).eval()
    task.load_state_dict(state)
    accuracies = []
    for loader in (data.train_part_dataloader(), data.val_dataloader()):
        batches = [data.on_after_batch_transfer(batch, 0) for batch in loader]
        evaluation = task.evaluation("val")
        for batch in batches:
            task.measure(evaluation, batch)
        accuracies.append(evaluation.score())
    return accuracies[0], accuracies[1]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("overfitting/")]
    # A validation that was repeated after a resume has logged the same point twice.
    return {tag: sorted({(event.step, event.value) for event in events.Scalars(tag)}) for tag in tags}


def assert_agrees_with_hand(**options: Any) -> None:
    train, val = by_hand(**options)
    figures = results()
    assert figures["overfitting/train_accuracy"] == pytest.approx(train)
    assert figures["overfitting/gap"] == pytest.approx(train - val)
    assert 0 < figures["overfitting/gap_margin"] < 0.5


def test_measured_images_are_a_fixed_part_of_train_as_large_as_val():
    parts = []
    for seed in (0, 0, 1):
        data = tiny_task.Shades(train=200, val=45, seed=seed, augment=[torch.nn.Identity()])
        data.setup("fit")
        loader = data.train_part_dataloader()
        parts.append(torch.cat([batch.keys for batch in loader]).tolist())
        assert not loader.dataset.augment
        images = torch.cat([batch.images for batch in loader])
        assert torch.equal(images, data.samples["train"].images[parts[-1]])
    assert parts[0] == parts[1] != parts[2]
    assert len(set(parts[0])) == 45 and max(parts[0]) > 45


AVERAGED = {"trainer": {"callbacks": [{"class_path": "kit.training.EMA", "init_args": {"decay": 0.9}}]}}


@pytest.mark.parametrize("averaged", [pytest.param(False, marks=pytest.mark.slow), True])
def test_weights_of_the_best_checkpoint_are_measured(averaged, capsys):
    Path("more.yaml").write_text(yaml.safe_dump(AVERAGED if averaged else {}))
    verbs.fit(["--config", "configs/tiny.yaml", "--config", "more.yaml", "--name", "tiny"])
    assert_agrees_with_hand()
    train, val = by_hand()
    (verdict,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("verdict: ")]
    assert f"(train {train:.2f}, val {val:.2f} +- 0." in verdict
    tags = scalars(RUN)
    assert [step for step, _ in tags["overfitting/train_accuracy"]] == [50, 100, 150]
    assert set(tags) == {"overfitting/train_accuracy", "overfitting/gap", "overfitting/gap_margin"}
    events = EventAccumulator(str(RUN)).Reload()
    assert "report/text_summary" in events.Tags()["tensors"]


def test_each_image_counts_once_with_two_processes(ranks):
    """49 images in batches of 8: one process has a batch more than the other, and the last one is incomplete.

    Both measure with the BatchNorm statistics that are in the checkpoint.
    """
    words = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.val", "49"]
    words += ["--model", "tiny_task.Normed"]
    ended = ranks("tiny_app.fit", *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("verdict: ") == 1
    assert_agrees_with_hand(val=49, model=tiny_task.Normed)


WORKERS = ["--data.num_workers", "1", "--trainer.max_epochs", "2"]


@pytest.mark.parametrize("words", [[], pytest.param(WORKERS, marks=pytest.mark.slow)], ids=["alone", "with a worker"])
def test_measuring_does_not_change_the_training(words):
    """The iterator of its loader must not draw from the generator that the training's iterators use."""
    states, figures = [], []
    for enabled in ("true", "false"):
        verbs.fit(["--name", enabled, "--overfitting.enabled", enabled, *FEW, *words])
        states.append(torch.load(f"runs/{enabled}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"])
        figures.append(results(Path(f"runs/{enabled}/version_0")))
        states[-1]["generator"] = torch.get_rng_state()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    same = [{k: v for k, v in f.items() if k.startswith("test/")} for f in figures]
    assert same[0] == same[1]
    assert not any(key.startswith("overfitting/") for key in figures[1])


def test_disabled_callback_is_silent(capsys):
    verbs.fit(["--overfitting.enabled", "false", *FEW])
    assert "verdict" not in capsys.readouterr().out and not scalars(RUN)


def test_resumed_run_keeps_earlier_measurements():
    options = ["--trainer.max_epochs", "4", "--model.lr", "0.01", *FEW]
    verbs.fit([*options, "--name", "straight"])
    verbs.fit([*options, "--name", "halved", "--trainer.max_epochs", "2"])
    verbs.fit(["--resume", "runs/halved/version_0", "--trainer.max_epochs", "4"])
    straight, halved = Path("runs/straight/version_0"), Path("runs/halved/version_0")
    assert scalars(straight) == scalars(halved)
    assert len(scalars(straight)["overfitting/gap"]) == 4
    own = [{k: v for k, v in results(run).items() if k.startswith("overfitting/")} for run in (straight, halved)]
    assert own[0] == own[1]


def test_plain_module_is_trained_without_a_verdict(capsys):
    verbs.fit(["--model", "tiny_task.Judge", *FEW])
    assert capsys.readouterr().out.count("verdict: none, since this needs a kit.task.Task") == 1
    assert not any(key.startswith("overfitting/") for key in results())


def test_no_verdict_without_a_validation(capsys):
    verbs.fit(["--trainer.limit_val_batches", "0", *FEW])
    assert "verdict: none, since no validation gave a score" in capsys.readouterr().out


def test_missing_training_score_is_the_reason_for_no_verdict():
    """As in a resumed run that has no validation left."""
    overfitting = Overfitting()
    overfitting.load_state_dict({"history": [[1, 0.5, 0.1, float("nan"), float("nan")]], "best": 0, "best_score": 0.5})
    overfitting._task = tiny_task.Judged(3, 3)
    overfitting._score_name = "accuracy"
    assert overfitting.conclusion(None, None) == "verdict: none, since the training images have no score"


def test_limited_validation_limits_the_measured_part():
    verbs.fit(["--trainer.limit_val_batches", "2", *FEW])
    assert results()["overfitting/train_accuracy"] * 16 % 1 == 0


def test_arguments_out_of_range_are_refused():
    assert_refused(EarlyStopping, patience=0, min_delta=-1)
    assert_refused(EMA, decay=1)


CASES = [  # the arguments, and the verdict
    (["--data.train", "60", "--data.val", "400", "--trainer.max_epochs", "30", "--data.batch_size", "60"],
     "overfits since epoch"),
    (["--model.lr", "0", *FEW], "underfits"),
    (["--data.val", "9"], "too small to tell"),
    (["--data.train", "2000", "--data.val", "200", "--data.batch_size", "50"], "fits well"),
]  # fmt: skip


SLOW = ("too small to tell", "fits well")


@pytest.mark.parametrize(
    ("words", "verdict"),
    [pytest.param(*case, marks=pytest.mark.slow if case[1] in SLOW else (), id=case[1]) for case in CASES],
)
def test_verdicts_of_real_runs(words, verdict, capsys):
    verbs.fit([*words, "--early_stopping.patience", "null"])
    assert f"verdict: {verdict}" in capsys.readouterr().out
