"""A run that is killed and resumed ends as one that was never killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from restless_task import Restless
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_task import Judge, Shades

from kit.cli import process, verbs
from kit.ground.errors import Stopped, UserError
from kit.ground.signals import stop_exception
from kit.safeguards.resume import restarting

PARTS = Path(__file__).resolve().parent.parent / "parts"

EMA = {"class_path": "kit.training.EMA", "init_args": {"decay": 0.9}}
RUN = {
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 2, "callbacks": [EMA]},
    "model": {"class_path": "restless_task.Restless"},
    "data": {
        "class_path": "tiny_task.Shades",
        "init_args": {
            "batch_size": 5,
            "augment": [{"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}],
            "val": 12,
        },
    },
    "early_stopping": {"patience": 2},
    "check": "off",
}


VARYING = ("dirpath", "best_k_models", "train_seconds")  # keys of the callbacks' states


class Killed(BaseException):
    """Stands for SIGKILL: no handler runs, and what was handed to the writer may be on the disk already."""


def config_of_all_runs() -> None:
    process.quiet()
    Path("tiny.yaml").write_text(yaml.safe_dump(RUN))


@pytest.fixture(autouse=True)
def config() -> None:
    config_of_all_runs()


def fit(name: str, *args: str) -> Path:
    verbs.fit(["--config", "tiny.yaml", "--name", name, *args])
    return Path("runs") / name / "version_0"


@pytest.fixture
def whole(once) -> Path:
    """Return the run that is not stopped, which is made once."""

    def make() -> None:
        config_of_all_runs()
        fit("whole")

    return once("restless", make) / "runs/whole/version_0"


@pytest.fixture
def killed(monkeypatch):
    """Return a function that starts a run which ends in the `at`-th call of a method of the task."""

    def run(name: str, at: int, where: str, *args: str) -> Path:
        calls = 0
        method = getattr(Restless, where)

        def counted(self, batch, batch_idx):
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return method(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(Restless, where, counted)
            with pytest.raises(Killed):
                fit(name, *args)
        return Path("runs") / name / "version_0"

    return run


def contents(run: Path, name: str) -> dict[str, Any]:
    """Return a checkpoint without what may differ: the run's folder and its duration."""
    content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    for state in content["callbacks"].values():
        for key in [key for key in state if "path" in key or key in VARYING]:
            del state[key]
    return content


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert set(a) == set(b), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for place, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}/{place}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    else:
        assert a == b, (where, a, b)


def log(run: Path) -> list[tuple[str, int, float]]:
    """Return what TensorBoard shows. A validation that was repeated may have logged the same point twice."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]  # by the clock
    return sorted({(tag, event.step, event.value) for tag in tags for event in events.Scalars(tag)})


def assert_same(run: Path, other: Path) -> None:
    for name in ("last", "best"):
        assert_equal(contents(run, name), contents(other, name), name)
    assert log(run) == log(other)
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, other)]
    assert results[0]["test/accuracy"] == results[1]["test/accuracy"]


@pytest.mark.parametrize("batch", [0, 2], ids=["in the last validation", "before the test"])
def test_complete_run_that_trains_on_and_is_stopped_can_be_resumed(batch, monkeypatch):
    """The results of its first two epochs do not count."""
    whole = fit("whole", "--trainer.max_epochs", "2", "--early_stopping.patience", "null")
    run = Path(shutil.copytree(whole, "runs/stopped/version_0"))
    more, step = ["--trainer.max_epochs", "4"], Restless.validation_step
    verbs.fit(["--resume", str(whole), *more])

    def interrupted(self, images, batch_idx):
        if self.current_epoch == 3 and batch_idx == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, images, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Restless, "validation_step", interrupted)
        with pytest.raises(Stopped):
            verbs.fit(["--resume", str(run), *more])
    assert not (run / "results.json").exists()
    verbs.fit(["--resume", str(run)])
    assert_same(whole, run)
    with pytest.raises(UserError, match=r"is complete \(4 epochs\)"):
        verbs.fit(["--resume", str(run)])


STEPS = {"every step": ["--exact_resume.every_minutes", "0"], "each epoch": []}

MOMENTS = [*((at, "training_step") for at in (1, 4, 8, 15)), *((at, "validation_step") for at in (2, 4))]
KILLS = [
    ("every step", [(15, "training_step"), (2, "validation_step")]),
    *(pytest.param(how, MOMENTS, marks=pytest.mark.slow, id=f"{how}, more moments") for how in STEPS),
]


@pytest.mark.parametrize(("how", "moments"), KILLS)
def test_resume_after_a_kill_at_any_moment(killed, whole, how, moments):
    whole = fit("whole", *STEPS[how]) if STEPS[how] else whole
    for at, where in moments:
        name = f"{where}_{at}"
        run = killed(name, at, where, *STEPS[how])
        verbs.fit(["--resume", str(run)])
        assert_same(whole, run)


@pytest.mark.slow
def test_workers_resume_within_an_epoch(killed):
    options = ["--data.num_workers", "2", *STEPS["every step"]]
    whole, run = fit("whole", *options), killed("killed", 12, "training_step", *options)
    verbs.fit(["--resume", str(run)])
    assert_same(whole, run)


def test_previous_checkpoint_replaces_a_damaged_one(killed, whole, capsys):
    run = killed("killed", 20, "training_step", *STEPS["every step"])
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    verbs.fit(["--resume", str(run)])
    assert "last.ckpt is damaged" in capsys.readouterr().err
    assert_same(whole, run)


def test_completed_batches_are_not_repeated(killed, monkeypatch):
    run = killed("killed", 4, "training_step", *STEPS["every step"])
    seen = []
    step = Restless.training_step
    monkeypatch.setattr(Restless, "training_step", lambda *a: seen.append(a[2]) or step(*a))
    verbs.fit(["--resume", str(run)])
    first = seen[0]
    assert first in (1, 2, 3)  # while one checkpoint is being written, the next has to wait
    assert seen[: 7 - first] == list(range(first, 7))


def test_more_epochs_give_a_longer_schedule(killed, capsys):
    run = fit("run")
    verbs.fit(["--resume", str(run), "--trainer.max_epochs", "6", "--early_stopping.patience", "null"])
    assert "the schedule is computed again, for 42 steps in all" in capsys.readouterr().out
    rates = {step: value for tag, step, value in log(run) if tag == "learning_rate"}
    straight = fit("straight", "--early_stopping.patience", "null", "--trainer.max_epochs", "6")
    planned = {step: value for tag, step, value in log(straight) if tag == "learning_rate"}
    assert planned.keys() == rates.keys()
    assert all(rates[step] == planned[step] for step in planned if step > 22)
    with pytest.raises(UserError, match=r"is complete \(6 epochs\)"):
        verbs.fit(["--resume", str(run), "--trainer.max_epochs", "2"])


EPOCHS = ["--trainer.max_epochs", "6"]
STEPS_IN_ALL = ["--trainer.max_epochs", "-1", "--trainer.max_steps", "22"]
LIMITED = [*EPOCHS, "--trainer.limit_train_batches", "3"]
OTHER_LENGTHS = [  # of an epoch of 7 steps: the run's length, an option, the message, the number of steps
    (EPOCHS, ["--data.batch_size", "12"], "7 batches per epoch before, 3 now: an unfinished epoch starts again", 18),
    (EPOCHS, ["--trainer.accumulate_grad_batches", "2"], "1 batches per step before, 2 now: an unfinished epoch", 24),
    (STEPS_IN_ALL, ["--data.batch_size", "12"], "7 batches per epoch before, 3 now: an unfinished epoch", 22),
    (LIMITED, ["--data.batch_size", "12"], "5 images per batch before, 12 now: an unfinished epoch starts again", 18),
]


@pytest.mark.parametrize(("length", "change", "message", "num_steps"), OTHER_LENGTHS)
def test_other_number_of_steps_per_epoch(length, change, message, num_steps, killed, capsys):
    """The learning rate reaches its end with the run, and the unfinished epoch starts again."""
    options = ["--early_stopping.patience", "null", "--trainer.log_every_n_steps", "1", *STEPS["every step"]]
    run = killed("run", 12, "training_step", *options, *length)
    verbs.fit(["--resume", str(run), *change, "--force", "true"])
    assert message in capsys.readouterr().out
    rates = [value for tag, step, value in log(run) if tag == "learning_rate"]
    straight = fit("straight", *options, *length, *change)
    planned = [value for tag, step, value in log(straight) if tag == "learning_rate"]
    assert rates[-9:] == planned[-9:] and len(planned) == num_steps


def test_schedule_goes_back_with_the_epoch_if_the_number_of_processes_changes(killed, capsys):
    """The number of steps in an epoch is the same, as with `trainer.limit_train_batches`."""
    options = ["--early_stopping.patience", "null", "--trainer.log_every_n_steps", "1"]
    run = killed("run", 12, "training_step", *options, *STEPS["every step"])
    file = run / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    assert content["global_step"] % 7
    content["exact_resume"]["processes"] = 2
    torch.save(content, file)
    verbs.fit(["--resume", str(run)])
    assert "2 processes before, 1 now: an unfinished epoch starts again" in capsys.readouterr().out
    rates, planned = (
        [value for tag, _, value in log(folder) if tag == "learning_rate"]
        for folder in (run, fit("straight", *options))
    )
    assert rates[-14:] == planned[-14:]


def test_checkpoint_without_the_length_of_an_epoch_can_be_resumed(killed, whole):
    run = killed("old", 12, "training_step", *STEPS["every step"])
    file = run / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    for key in ("images per batch", "batches per epoch", "batches per step"):
        del content["exact_resume"][key]
    torch.save(content, file)
    verbs.fit(["--resume", str(run), *STEPS["each epoch"]])
    assert_equal(contents(whole, "last")["state_dict"], contents(run, "last")["state_dict"])


def test_another_config_needs_force(killed, capsys):
    run = killed("killed", 10, "training_step")
    with pytest.raises(UserError, match=r"model.lr was 0.01 and is now 0.5. Start a new run, or .* --force true"):
        verbs.fit(["--resume", str(run), "--model.lr", "0.5"])
    verbs.fit(["--resume", str(run), "--model.lr", "0.5", "--force", "true", "--early_stopping.min_delta", "0.001"])
    said = capsys.readouterr()
    assert "although its config changed: model.lr was 0.01 and is now 0.5; early_stopping." in said.err
    highest = max(group["initial_lr"] for group in contents(run, "last")["optimizer_states"][0]["param_groups"])
    assert highest == 0.5
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert (saved["force"], saved["resume"], saved["model"]["init_args"]["lr"]) == (False, None, 0.5)


@pytest.mark.slow
def test_hardware_options_are_no_change_of_the_config(killed, whole):
    run = killed("killed", 10, "training_step")
    verbs.fit(["--resume", str(run), "--data.num_workers", "1", "--exact_resume.every_minutes", "1", "--check", "warn"])
    assert_equal(contents(whole, "last")["state_dict"], contents(run, "last")["state_dict"])


def test_other_data_are_refused(killed, monkeypatch):
    run = killed("killed", 10, "training_step")
    load_split = Shades.load_split
    monkeypatch.setattr(Shades, "load_split", lambda self, split: load_split(self, split).subset(torch.arange(10)))
    told = "train had 37 samples and now has 10; val had 12 samples and now has 10; test had 11 samples and now has 10"
    with pytest.raises(UserError, match=f"--resume needs the same data: {told}"):
        verbs.fit(["--resume", str(run)])
    monkeypatch.setattr(
        Shades, "load_split", lambda self, split: load_split(self, split).subset(torch.arange(9, -1, -1))
    )
    monkeypatch.setattr(Shades, "find_class_names", lambda self: ["dark", "grey", "white"])
    with pytest.raises(UserError, match="the names of classes differ"):
        verbs.fit(["--resume", str(run)])


def test_changed_annotations_are_refused_unless_an_earlier_version_did_not_store_them(capsys):
    old, new = {"samples": 3, "labels": 0, "annotations": 1}, {"samples": 3, "labels": 0, "annotations": 2}
    data = SimpleNamespace(class_names=["a"], fingerprint={"train": new, "val": new})

    def refuse(train: dict[str, int]) -> None:
        state = {"class_names": ["a"], "fingerprint": {"train": train, "val": new}}
        restarting.refuse_other_data({"SimpleNamespace": state}, data, force=False)

    refuse(new)
    assert not capsys.readouterr().out
    with pytest.raises(UserError, match="the annotations of train differ"):
        refuse(old)
    del old["annotations"]
    refuse(old)
    assert capsys.readouterr().out.startswith("whether the annotations changed is not checked: the checkpoint is of")
    with pytest.raises(UserError, match="train had 4 samples and now has 3"):
        refuse({**old, "samples": 4})


def test_disabled_callback_writes_no_last_checkpoint():
    run = fit("off", "--exact_resume.enabled", "false")
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["best.ckpt"]


SIGNALS = [
    (signal.SIGINT, 130, "stopped by Ctrl-C"),
    (signal.SIGTERM, 143, "stopped by SIGTERM"),
    (signal.SIGHUP, 129, "stopped by SIGHUP"),
]


@pytest.mark.parametrize(("number", "code", "said"), SIGNALS, ids=["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_signal_saves_and_prints_the_command_to_resume(number, code, said, whole, monkeypatch):
    """The signal comes in the middle of a step."""
    step = Restless.training_step
    at = iter(range(100))

    def interrupted(self, batch, batch_idx):
        if next(at) == 10:
            os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Restless, "training_step", interrupted)
        with pytest.raises(Stopped, match=f"{said}; to continue: .* -m tiny_app.fit --resume runs/stopped") as stopped:
            fit("stopped")
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) == before
    run = Path("runs/stopped/version_0")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 11
    verbs.fit(["--resume", str(run)])
    assert_same(whole, run)


def test_second_ctrl_c_stops_at_once(monkeypatch):
    def interrupted(self, batch, batch_idx):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr(Restless, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit("stopped")


def test_signal_before_the_first_step_is_not_lost(whole, monkeypatch):
    """The optimizer is made after the workers have started."""
    make = Restless.configure_optimizers

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return make(self)

    with monkeypatch.context() as patch:
        patch.setattr(Restless, "configure_optimizers", interrupted)
        with pytest.raises(Stopped, match=r"to continue: .* --resume runs/stopped/version_0"):
            fit("stopped")
    run = Path("runs/stopped/version_0")
    assert contents(run, "last")["global_step"] == 0
    verbs.fit(["--resume", str(run)])
    assert_same(whole, run)


def test_signal_while_the_data_are_read_leaves_no_folder(monkeypatch):
    def interrupted(self, split):
        raise stop_exception(signal.SIGTERM)

    monkeypatch.setattr(Shades, "load_split", interrupted)
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM$"):
        fit("stopped")
    assert not list(Path("runs/stopped").iterdir())


def test_run_that_another_process_trains_is_not_resumed(killed, whole, monkeypatch):
    run = killed("killed", 12, "training_step")
    code = "import fcntl; file = open('.lock', 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=run, **pipes) as other:
        other.stdout.readline()
        events = run / "events.out.tfevents.1.new"
        events.write_bytes(bytes(88))  # the other process has made it, and has not logged yet
        with pytest.raises(UserError, match="the config cannot be used"):
            verbs.fit(["--resume", str(run), "--trainer.accelerator", "gpuu"])
        with pytest.raises(UserError, match="is being trained by another process"):
            verbs.fit(["--resume", str(run)])
        other.kill()
    assert events.exists()
    choose = restarting.choose
    with monkeypatch.context() as patch:
        patch.setattr(restarting, "choose", lambda old: (choose(old), (run / "checkpoints/new.ckpt").touch())[0])
        with pytest.raises(UserError, match=f"another process has just saved a checkpoint in .*{run}: repeat"):
            verbs.fit(["--resume", str(run)])
    verbs.fit(["--resume", str(run)])
    assert_same(whole, run)
    assert not events.exists()


def test_removed_folder_stops_the_run(monkeypatch):
    step = Restless.training_step

    def remove(self, batch, batch_idx):
        if self.current_epoch == 1:
            shutil.rmtree("runs/removed", ignore_errors=True)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Restless, "training_step", remove)
    with pytest.raises(UserError, match="runs/removed/version_0 was removed") as ended:
        fit("removed")
    assert ended.value.exit_code == 1
    assert not Path("runs/removed/version_0/checkpoints").exists()


def test_killed_worker_is_one_line_with_the_command_to_resume(monkeypatch):
    step = Restless.training_step

    def kill(self, batch, batch_idx):
        if self.current_epoch == 1:
            active_children()[0].kill()
            time.sleep(10)  # torch raises an exception in here
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Restless, "training_step", kill)
    with pytest.raises(UserError, match=r"^a worker process has ended .*--resume runs/worker/version_0$") as ended:
        fit("worker", "--data.num_workers", "1")
    assert ended.value.exit_code == 1


def test_signal_in_a_validation_which_is_repeated(whole, monkeypatch):
    step = Restless.validation_step

    def interrupted(self, batch, batch_idx):
        if batch_idx == 1 and self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Restless, "validation_step", interrupted)
        with pytest.raises(Stopped):
            fit("stopped")
    verbs.fit(["--resume", "runs/stopped/version_0"])
    assert_same(whole, Path("runs/stopped/version_0"))


DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
ENDLESS = ["--trainer.max_epochs", "100000", "--early_stopping.patience", "null", "--model", "tiny_task.Judge"]


def assert_one_process_resumes(run: Path, said: str, ranks) -> None:
    assert said.count("stopped by SIGTERM; to continue") == 1 and "Traceback" not in said
    epochs = contents(run, "last")["epoch"] + 2
    words = ["--resume", str(run), "--trust", "tiny_task", "--trust", "poison", "--trainer.devices", "1"]
    words += ["--trainer.max_epochs", str(epochs)]  # in a process of its own: ddp would hold this one's port
    ended = ranks("tiny_app.fit", *words, processes=1)
    assert ended.returncode == 0, ended.stderr
    assert "2 processes before, 1 now" in ended.stdout
    assert contents(run, "last")["exact_resume"]["processes"] == 1


def test_two_processes_stop_together_and_one_resumes(ranks):
    ended = ranks("tiny_app.fit", "--config", "tiny.yaml", "--name", "two", *DDP, *ENDLESS,
                  "--trainer.callbacks+=poison.Terminated", "--trainer.callbacks.step", "5")  # fmt: skip
    assert ended.returncode == 143, ended.stderr
    assert_one_process_resumes(Path("runs/two/version_0"), ended.stderr, ranks)


@pytest.mark.slow
def test_two_processes_stop_together_if_one_has_started_the_other(ranks):
    """SIGTERM to all of them, as `timeout` and SLURM send it."""
    paths = os.pathsep.join(filter(None, (str(PARTS), os.environ.get("PYTHONPATH"))))
    line = [sys.executable, "-m", "tiny_app.fit", "--config", "tiny.yaml", "--name", "two", *DDP, *ENDLESS]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    options = {"env": environment, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    run = Path("runs/two/version_0")
    with subprocess.Popen(line, **options) as started:
        while not (run / "checkpoints" / "best.ckpt").exists():
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.1)
        os.killpg(started.pid, signal.SIGTERM)
        _, said = started.communicate(timeout=120)
    assert started.returncode == 143, said
    assert_one_process_resumes(run, said, ranks)


@pytest.mark.parametrize("at", [*(pytest.param(at, marks=pytest.mark.slow) for at in (1, 2)), 3])
def test_signal_with_one_batch_per_epoch_and_no_validation(at, monkeypatch):
    """Also in the last epoch; the resumed run does the test."""
    words = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0"]
    step, calls = Restless.training_step, []

    def interrupted(self, batch, batch_idx):
        calls.append(batch_idx)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Restless, "training_step", interrupted)
        with pytest.raises(Stopped):
            fit("stopped", *words)
    assert len(calls) == at
    run = Path("runs/stopped/version_0")
    assert not (run / "results.json").exists()
    verbs.fit(["--resume", str(run)])
    assert_same(fit("whole", *words), run)


@pytest.mark.parametrize(("interval", "validated"), [(5, [4, 8]), (100, [8]), (4, [4, 8])])
def test_run_whose_validations_are_counted_in_steps_ends_with_one(monkeypatch, interval, validated):
    steps = []
    monkeypatch.setattr(Judge, "on_validation_end", lambda self: steps.append(self.global_step), raising=False)
    words = ["--trainer.max_epochs", "-1", "--trainer.max_steps", "8", "--trainer.check_val_every_n_epoch", "null"]
    fit("steps", "--model", "tiny_task.Judge", *words, "--trainer.val_check_interval", str(interval))
    assert [step for step in dict.fromkeys(steps) if step] == validated


@pytest.mark.slow
def test_validation_while_gradients_are_accumulated(killed):
    """No checkpoint holds the gradients that were accumulated so far."""
    words = ["--trainer.accumulate_grad_batches", "4", "--trainer.val_check_interval", "3"]
    run = killed("killed", 6, "training_step", *words)
    verbs.fit(["--resume", str(run)])
    assert_same(fit("whole", *words), run)


def test_module_that_saves_no_hyperparameters_can_be_resumed(monkeypatch):
    monkeypatch.setattr(Judge, "save_hyperparameters", lambda *_, **__: None)
    words = ["--model", "tiny_task.Judge", "--trainer.max_epochs", "1", "--trainer.callbacks", "[]"]
    words += ["--early_stopping.patience", "null"]
    monkeypatch.setattr(Judge, "configure_optimizers", lambda self: torch.optim.SGD(self.parameters(), 0.01))
    run = fit("own", *words)
    verbs.fit(["--resume", str(run), "--trainer.max_epochs", "2"])
    assert contents(run, "last")["epoch"] == 1
    with pytest.raises(UserError, match=r"does not name its LightningModule.* does not call save_hyperparameters"):
        verbs.test([str(run)])


def test_paths_in_a_foreign_checkpoint_are_not_deleted():
    """Lightning deletes the file of the previous best score, which a checkpoint names."""
    run, victim = fit("run", "--trainer.max_epochs", "1", "--early_stopping.patience", "null"), Path("victim.ckpt")
    victim.write_text("precious")
    file = run / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    state = next(state for state in content["callbacks"].values() if "kth_best_model_path" in state)
    state |= {"kth_best_model_path": str(victim), "best_model_path": str(victim), "dirpath": str(Path.cwd())}
    state |= {"best_k_models": {str(victim): torch.tensor(9.0)}, "kth_value": torch.tensor(9.0)}
    torch.save(content, file)
    verbs.fit(["--resume", str(run), "--trainer.max_epochs", "3"])
    assert victim.read_text() == "precious"
    assert (run / "checkpoints" / "best.ckpt").is_file()
