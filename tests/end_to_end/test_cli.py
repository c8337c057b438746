"""The verbs with a tiny task, independent of the slices."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from kit.cli import verbs
from kit.cli.command_line import with_config
from kit.ground.errors import UserError

PARTS = Path(__file__).resolve().parents[1] / "kit" / "parts"
TINY = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "model": {"class_path": "tiny_task.Judge"},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8}},
}


@pytest.fixture(autouse=True)
def configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `configs/` with two runs and an overlay, in the folder of the test."""
    monkeypatch.syspath_prepend(str(PARTS))
    Path("configs/trainer").mkdir(parents=True)
    Path("configs/tiny.yaml").write_text(yaml.safe_dump(TINY))
    Path("configs/a_first.yaml").write_text(yaml.safe_dump(TINY))
    Path("configs/trainer/short.yaml").write_text("trainer: {limit_train_batches: 2}\n")


@pytest.fixture
def printed(capsys) -> Callable[..., dict]:
    """Return a function that returns the output of `--print_config`."""

    def run(*args: str) -> dict:
        with pytest.raises(SystemExit):
            verbs.fit([*args, "--print_config"])
        return yaml.safe_load(capsys.readouterr().out)

    return run


def environment() -> dict[str, str]:
    paths = os.pathsep.join(
        filter(None, (str(PARTS), os.environ.get("PYTHONPATH")))
    )  # that of a worktree, if it is set
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def table(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.splitlines() if line.startswith(("test/", "val/")))


def weights(run: Path | str, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(Path(run) / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def test_command_line_overrides_configs_in_any_order(printed):
    words = ["--trainer.max_epochs", "7", "--config", "configs/tiny.yaml", "--data.batch_size=3"]
    found = printed(*words, "--config=configs/trainer/short.yaml")
    assert (found["trainer"]["max_epochs"], found["data"]["init_args"]["batch_size"]) == (7, 3)
    assert found["trainer"]["limit_train_batches"] == 2


def test_default_is_the_first_config_without_an_underscore(capsys):
    verbs.fit([])
    assert Path("runs/tiny/version_0/config.yaml").is_file()
    assert not Path("runs/a_first").exists()
    assert "run folder    runs/tiny/version_0" in capsys.readouterr().out


def test_overlay_alone_changes_the_default(printed):
    config = printed("--config", "configs/trainer/short.yaml")
    assert config["trainer"]["limit_train_batches"] == 2
    assert config["trainer"]["max_epochs"] == 1
    assert config["model"]["class_path"] == "tiny_task.Judge"
    assert config["name"] == "tiny"


def test_later_configs_override_earlier_ones_and_flags_all(printed):
    Path("later.yaml").write_text("trainer: {max_epochs: 7}\nmodel: {init_args: {lr: 0.5}}\n")
    both = ["--config", "configs/tiny.yaml", "--config", "later.yaml"]
    config = printed(*both)
    assert (config["trainer"]["max_epochs"], config["model"]["init_args"]["lr"]) == (7, 0.5)
    assert config["data"]["init_args"]["batch_size"] == 8
    assert config["name"] == "later"
    config = printed(*both, "--trainer.max_epochs", "9", "--early_stopping.patience", "null", "--name=mine")
    assert config["trainer"]["max_epochs"] == 9
    assert config["early_stopping"]["patience"] is None
    assert config["name"] == "mine"


def test_only_options_ask_for_help():
    words = ["--data.root", "data/help", "help"]
    assert with_config(words) == ["--config=configs/tiny.yaml", "--name=tiny", *words]
    for words in (["--help"], ["--model.help", "tiny_task.Judge"], ["--data.help=tiny_task.Shades"]):
        assert with_config(words) == words


def test_seed_of_the_run_is_that_of_the_data(printed):
    assert printed("--seed_everything", "5")["seed_everything"] == 5
    verbs.fit(["--seed_everything", "5"])
    content = torch.load("runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert content["datamodule_hyper_parameters"]["seed"] == 5


def test_runs_are_numbered_and_their_config_repeats_them(capsys):
    for _ in range(2):
        verbs.fit(["--name", "mine", "--trainer.max_epochs", "2"])
    runs = Path("runs/mine")
    assert sorted(p.name for p in runs.iterdir()) == ["version_0", "version_1"]
    verbs.fit(["--config", str(runs / "version_0" / "config.yaml"), "--name", "again"])
    for other in (runs / "version_1", Path("runs/again/version_0")):
        assert all(torch.equal(value, weights(other)[key]) for key, value in weights(runs / "version_0").items())
        assert (other / "results.json").is_file()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_seed_changes_the_weights(seed):
    verbs.fit(["--name", "other", "--seed_everything", seed])
    verbs.fit(["--name", "own"])
    own, other = weights("runs/own/version_0"), weights("runs/other/version_0")
    assert not torch.equal(own["net.weight"], other["net.weight"])


def test_best_checkpoint_is_tested(capsys):
    verbs.fit(["--trainer.max_epochs", "3", "--model.lr", "0.1"])
    run = Path("runs/tiny/version_0")
    reported = table(capsys.readouterr().out)
    results = json.loads((run / "results.json").read_text())
    assert reported == {"test/accuracy": f"{results['test/accuracy']:.4f}"}
    assert all(isinstance(value, (int, float)) for value in results.values())
    for what in (run, run / "checkpoints" / "best.ckpt"):
        verbs.test([str(what)])
        assert table(capsys.readouterr().out) == reported


def test_test_needs_only_the_checkpoint_and_takes_other_data(capsys):
    verbs.fit([])
    capsys.readouterr()
    Path("runs/tiny/version_0/checkpoints/best.ckpt").rename("moved.ckpt")
    verbs.test(["moved.ckpt", "--data.test", "30"])
    thirty = float(table(capsys.readouterr().out)["test/accuracy"])
    assert thirty * 30 == pytest.approx(round(thirty * 30), abs=0.01)
    # An undivided folder is tested whole: 37 images, which are no training images here.
    verbs.test(["moved.ckpt", "--data.root", "elsewhere", "--data.test", "0"])
    out = capsys.readouterr().out
    whole = float(table(out)["test/accuracy"])
    assert "no test split" not in out
    assert whole * 37 == pytest.approx(round(whole * 37), abs=0.01)
    assert not list(Path().glob("lightning_logs")) and len(list(Path("runs").iterdir())) == 1


def test_model_gets_only_the_arguments_that_it_has(capsys):
    """`Normed` has no arguments for the names and the counts of classes."""
    verbs.fit(["--model", "tiny_task.Normed"])
    reported = table(capsys.readouterr().out)
    verbs.test(["runs/tiny/version_0"])
    assert table(capsys.readouterr().out) == reported


def test_without_test_split_the_validation_split_is_reported(capsys):
    verbs.fit(["--data.test", "0"])
    out = capsys.readouterr().out
    assert "no test split" in out
    assert set(table(out)) == {"val/accuracy"}
    assert "val/accuracy" in json.loads(Path("runs/tiny/version_0/results.json").read_text())


def test_moved_run_is_resumed_in_its_folder():
    verbs.fit(["--trainer.max_epochs", "3", "--name", "straight"])
    verbs.fit(["--trainer.max_epochs", "1", "--name", "halved"])
    Path("runs/halved/version_0").rename("elsewhere")
    verbs.fit(["--resume", "elsewhere", "--trainer.max_epochs", "3"])
    assert not Path("runs/halved/version_0").exists()
    straight, resumed = weights("runs/straight/version_0"), weights("elsewhere")
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


@pytest.mark.parametrize("limit", ["max_epochs", "max_steps"])
def test_complete_run_is_not_resumed(limit):
    verbs.fit(["--trainer.max_epochs", "-1", f"--trainer.{limit}", "2"])
    before = {file: file.read_bytes() for file in Path("runs").rglob("*") if file.is_file()}
    run = Path("runs/tiny/version_0").absolute()
    message = rf"{run} is complete \(\d epochs?\): raise --trainer.{limit} to continue, .*test {run}`"
    with pytest.raises(UserError, match=message):
        verbs.fit(["--resume", "runs/tiny/version_0"])
    assert before == {file: file.read_bytes() for file in Path("runs").rglob("*") if file.is_file()}


ENDED = {
    "early stopping": ["--early_stopping.patience", "1", "--early_stopping.min_delta", "10"],
    "max_time": ["--trainer.max_time", "00:00:00:01", "--early_stopping.patience", "null"],
}


@pytest.mark.parametrize("how", ENDED)
def test_run_that_ended_early_is_only_measured_again(how, capsys):
    verbs.fit(["--trainer.max_epochs", "100000", *ENDED[how]])
    run = Path("runs/tiny/version_0")
    reported, config = table(capsys.readouterr().out), (run / "config.yaml").read_bytes()
    before = {name: weights(run, name) for name in ("best", "last")}
    verbs.fit(["--resume", str(run)])
    assert table(capsys.readouterr().out) == reported and (run / "config.yaml").read_bytes() == config
    assert all(torch.equal(value, weights(run, name)[key]) for name in before for key, value in before[name].items())


def test_trained_run_that_was_killed_in_the_test_reports(capsys):
    verbs.fit(["--trainer.max_epochs", "2"])
    run = Path("runs/tiny/version_0")
    before, reported = weights(run, "best"), table(capsys.readouterr().out)
    (run / "results.json").unlink()
    verbs.fit(["--resume", str(run)])
    assert table(capsys.readouterr().out) == reported
    assert all(torch.equal(value, weights(run, "best")[key]) for key, value in before.items())


def test_best_value_beside_the_hyperparameters_is_kept_by_a_resumed_run():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    falls = ["--checkpoint.monitor", "train/loss", "--checkpoint.mode", "max"]  # so that the first epoch is the best
    verbs.fit([*falls, "--trainer.max_epochs", "1"])
    verbs.fit(["--resume", "runs/tiny/version_0", "--trainer.max_epochs", "3"])
    events = EventAccumulator("runs/tiny/version_0/best").Reload()
    assert len({event.value for event in events.Scalars("train/loss")}) == 1


def test_averaged_weights_are_validated_saved_and_tested(capsys):
    averaged = {"class_path": "kit.training.EMA", "init_args": {"decay": 0.9}}
    Path("ema.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [averaged]}}))
    options = ["--config", "configs/tiny.yaml", "--config", "ema.yaml"]
    verbs.fit([*options, "--name", "straight", "--trainer.max_epochs", "3"])
    reported = table(capsys.readouterr().out)
    verbs.test(["runs/straight/version_0"])
    assert table(capsys.readouterr().out) == reported
    content = torch.load("runs/straight/version_0/checkpoints/best.ckpt", weights_only=True)
    assert not torch.equal(content["state_dict"]["net.weight"], content["current_model_state"]["net.weight"])
    verbs.fit([*options, "--name", "halved", "--trainer.max_epochs", "1"])
    verbs.fit(["--resume", "runs/halved/version_0", "--trainer.max_epochs", "3"])
    assert all(
        torch.equal(w, weights("runs/halved/version_0")[k]) for k, w in weights("runs/straight/version_0").items()
    )


def test_best_averaged_weights_are_reported_without_a_test_split(capsys):
    averaged = {"class_path": "kit.training.EMA", "init_args": {"decay": 0.5}}
    Path("ema.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [averaged]}}))
    # The first epoch is the best; later ones are others.
    falls = ["--checkpoint.monitor", "train/loss", "--checkpoint.mode", "max", "--model.lr", "0.3"]
    sizes = ["--data.train", "120", "--data.val", "90", "--data.test", "0", "--trainer.max_epochs", "4"]
    verbs.fit(["--config", "configs/tiny.yaml", "--config", "ema.yaml", "--name", "tiny", *falls, *sizes])
    reported = table(capsys.readouterr().out)
    verbs.test(["runs/tiny/version_0"])
    assert table(capsys.readouterr().out) == reported


def test_run_writes_only_into_its_folder():
    verbs.fit(["--trainer.default_root_dir", "elsewhere/deep"])
    assert sorted(p.name for p in Path().iterdir()) == ["configs", "elsewhere"]
    run = Path("elsewhere/deep/tiny/version_0")
    reports = {"config.yaml", "results.json", "history.json", "report.html", "README.md", "pictures", "best", ".lock"}
    assert {p.name for p in run.iterdir() if "tfevents" not in p.name} == {"checkpoints", *reports}
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("who", ["early_stopping", "checkpoint"])
def test_monitored_metric_must_be_logged(who):
    with pytest.raises(UserError, match=rf"{who}.monitor: no 'val/acuracy' is logged; did you mean 'val/accuracy'"):
        verbs.fit(["--config", "configs/tiny.yaml", f"--{who}.monitor", "val/acuracy"])


def test_without_validation_the_last_weights_are_the_best(capsys):
    verbs.fit(["--config", "configs/tiny.yaml", "--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"])
    run = Path("runs/tiny/version_0")
    assert all(torch.equal(weights(run, "best")[name], last) for name, last in weights(run).items())
    assert "test/accuracy" in table(capsys.readouterr().out)


def test_short_run_is_validated_at_its_end():
    verbs.fit(["--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "5"])
    assert Path("runs/tiny/version_0/checkpoints/best.ckpt").is_file()


def test_fast_dev_run_writes_no_checkpoint():
    verbs.fit(["--trainer.fast_dev_run", "true"])
    assert not list(Path("runs").rglob("*.ckpt"))


DDP = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]


SIZES = [
    pytest.param(13, 7, marks=pytest.mark.slow, id="uneven"),
    pytest.param(1, 1, id="fewer than processes"),
]


@pytest.mark.parametrize(("val", "test"), SIZES)
def test_two_processes_count_each_sample_once(val, test, ranks, capsys):
    sizes = ["--data.train", "33", "--data.val", str(val), "--data.test", str(test), "--data.batch_size", "4"]
    ended = ranks("project.fit", *sizes, *DDP)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    results = json.loads(Path("runs/tiny/version_0/results.json").read_text())
    assert table(ended.stdout) == {"test/accuracy": f"{results['test/accuracy']:.4f}"}  # one table, of one process
    assert len(list(Path("runs/tiny").iterdir())) == 1
    verbs.test(["runs/tiny/version_0"])
    assert table(capsys.readouterr().out) == table(ended.stdout)
    state = torch.load("runs/tiny/version_0/checkpoints/best.ckpt", weights_only=True)
    assert state["global_step"] == 33 // 2 // 4
    score = next(v["best_model_score"] for k, v in state["callbacks"].items() if "best_model_score" in v)
    assert float(score) * val == pytest.approx(round(float(score) * val), abs=1e-4)


def test_test_uses_the_validation_images_of_its_run(capsys):
    options = ["--data.root", "./aa", "--data.train", "400", "--data.test", "0", "--model.lr", "0.0001"]
    verbs.fit(["--seed_everything", "5", *options])
    reported = table(capsys.readouterr().out)
    for root in ([], ["--data.root", "aa/."]):  # another spelling of the folder of the run's data
        verbs.test(["runs/tiny/version_0", *root])
        out = capsys.readouterr().out
        assert "no test split" in out and table(out) == reported


def test_config_of_a_resumed_run_starts_a_new_run():
    verbs.fit([])
    verbs.fit(["--resume", "runs/tiny/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2"])
    assert [path.name for path in Path("runs").rglob("version_*")] == ["version_0"]
    before = Path("runs/tiny/version_0/results.json").read_bytes()
    verbs.fit(["--config", "runs/tiny/version_0/config.yaml"])
    assert Path("runs/tiny/version_1/results.json").is_file()
    assert Path("runs/tiny/version_0/results.json").read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_ends_with_a_line_and_exit_code_130():
    words = [sys.executable, "-m", "project.fit", "--trainer.max_epochs", "100000", "--early_stopping.patience", "null"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    with subprocess.Popen(words, **pipes) as run:
        while not Path("runs/tiny/version_0/checkpoints/last.ckpt").exists():
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "stopped by Ctrl-C" in said and "Traceback" not in said


@pytest.mark.slow
def test_closed_pipe_does_not_end_a_run():
    """This is what `| head -1` does."""
    words = [sys.executable, "-m", "project.fit", "--trainer.max_epochs", "50", "--early_stopping.patience", "null"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    with subprocess.Popen(words, **pipes) as run:
        assert run.stdout.readline().startswith("data: ")
        run.stdout.close()
        assert not run.stderr.read()
    assert run.returncode == 0
    assert Path("runs/tiny/version_0/results.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.max_steps", "1"],
        ["--trainer.limit_val_batches", "0", "--trainer.check_val_every_n_epoch", "2"],
    ],
    ids=["ends before the first validation", "without validation"],
)
def test_last_weights_are_the_best_if_none_were_validated(words, capsys):
    verbs.fit(words)
    checkpoints = Path("runs/tiny/version_0/checkpoints")
    last, best = (torch.load(checkpoints / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert all(torch.equal(value, best["state_dict"][key]) for key, value in last["state_dict"].items())
    assert "test/accuracy" in capsys.readouterr().out
    Path("runs/tiny/version_0/results.json").unlink()  # as after a kill in the test
    verbs.fit(["--resume", "runs/tiny/version_0"])
    assert "test/accuracy" in capsys.readouterr().out
