"""Settings of Lightning and torch that cannot work, and settings that once did not work."""

from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from kit.cli import verbs
from kit.cli.pretrained import save_arguments
from kit.cli.settings import check_net, check_settings, explain
from kit.ground.errors import UserError
from kit.training.precision import FULL

RUN = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "model": {"class_path": "tiny_task.Judge"},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8}},
    "check": "off",
    "dashboard": {"enabled": False},
}


@pytest.fixture(autouse=True)
def config() -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump(RUN))


REFUSED = [  # a setting of the trainer, and values that cannot work
    ("accumulate_grad_batches", [0, -2]),
    ("check_val_every_n_epoch", [0]),
    ("devices", [99, "99"]),
    ("gradient_clip_val", [-1.0]),
    ("limit_train_batches", [0, 0.0]),
    ("max_epochs", [0]),
    ("max_steps", [0]),
    ("val_check_interval", [0, 0.0]),
]


@pytest.mark.parametrize(("key", "values"), REFUSED)
def test_settings_that_cannot_work_are_refused(key, values):
    for value in values:
        with pytest.raises(UserError, match=rf"trainer\.{key} is {value}"):
            check_settings(Namespace(**{key: value}))


def test_other_settings_are_accepted():
    check_settings(
        Namespace(
            accumulate_grad_batches=4,
            check_val_every_n_epoch=None,
            devices="auto",
            gradient_clip_val=0.0,
            limit_train_batches=0.5,
            max_epochs=-1,
            max_steps=-1,
            val_check_interval=10,
        )
    )


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_net_for_another_task_is_refused(kind):
    net = type("Net", (), {"__module__": f"kit.zoo.{kind}"})()
    model = type(
        "Classifier", (), {"net": net, "Predictions": type("Rows", (), {"__module__": "kit.labels.predictions"})}
    )()
    if kind == "classification":
        check_net(model, FULL)
        return
    with pytest.raises(UserError, match="Net is a net for detection, but Classifier needs one for classification"):
        check_net(model, FULL)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_precision_that_rounds_boxes_is_refused(precision):
    model = type("Detector", (), {"Predictions": type("Rows", (), {"__module__": "kit.boxes.predictions"})})()
    with pytest.raises(UserError, match=f"{precision} rounds the coordinates of boxes"):
        check_net(model, precision)
    check_net(model, "bf16-mixed")


ERRORS = [  # an error of a library, and words of its explanation; None if it is not about a setting
    (ValueError("Expected more than 1 value per channel when training, got [1, 4, 1, 1]"), "data.batch_size"),
    (ValueError("-1 is not in bounds, numpy accepts from 0 to 4294967295"), "seed_everything"),
    (TypeError("Input image tensor permitted channel values are 1 or 3, but found 4"), "data.channels"),
    (RuntimeError("\"nms_kernel\" not implemented for 'BFloat16'"), "--trainer.precision bf16-mixed"),
    (RuntimeError("\"histc\" not implemented for 'BFloat16'"), "--auto_precision false"),
    (RuntimeError("Given input size: (64x1x1). Output size is too small"), "data.image_size"),
    (RuntimeError("Early stopping conditioned on metric `a` which is not available. Use any of: `b`"), "any of: `b`"),
    (MisconfigurationException("you cannot do that"), "you cannot do that"),
    (RuntimeError("a bug"), None),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=[str(error)[:20] for error, _ in ERRORS])
def test_explanation_of_an_error(error, words):
    explained = explain(error)
    assert words in explained if words else explained is None


def test_only_errors_while_restoring_are_about_the_checkpoint(fit, monkeypatch):
    run = fit("--config", "tiny.yaml")
    again = ["--resume", str(run), "--trainer.max_epochs", "2"]
    for hook, words in (("load", "the checkpoint cannot be restored: TypeError"), ("save", None)):
        with monkeypatch.context() as patch, pytest.raises(TypeError) as caught:
            patch.setattr(f"lightning.pytorch.trainer.call._call_callbacks_on_{hook}_checkpoint", int)
            verbs.fit(again)
        assert words in explain(caught.value) if words else explain(caught.value) is None


@pytest.mark.parametrize("hook", ["on_load_checkpoint", "on_save_checkpoint"])
def test_error_in_a_hook_of_the_user_keeps_its_traceback(hook, fit, monkeypatch):
    run = fit("--config", "tiny.yaml")
    monkeypatch.setattr(f"tiny_task.Judge.{hook}", lambda *_: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError) as caught:
        verbs.fit(["--resume", str(run), "--trainer.max_epochs", "2"])
    assert explain(caught.value) is None


MISTAKES = [  # the command line, and words of the message
    (["--trainer.accelerator", "tpu"], "torch_xla"),
    (["--trainer.strategy", "foo"], "foo"),
    (["--seed_everything", "true"], "seed_everything is true"),
    (["--trainer.max_time", "00:00:00:00"], "nothing was trained"),
]


@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_mistake_is_one_line(args, words):
    with pytest.raises(UserError) as caught:
        verbs.fit(["--config", "tiny.yaml", *args])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_home_folder_in_paths(monkeypatch):
    home = Path("home").absolute()
    monkeypatch.setenv("HOME", str(home))
    verbs.fit(["--config", "tiny.yaml", "--trainer.default_root_dir=~/runs"])
    run = home / "runs/tiny/version_0"
    file = run / "config.yaml"
    content = yaml.safe_load(file.read_text())
    own = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "~/own/"}}
    content["trainer"]["callbacks"] = [own]
    file.write_text(yaml.safe_dump(content))
    paths = ["--data.cache_dir=~/cache", "--trainer.callbacks.dirpath=~/own/"]
    verbs.fit(["--resume", str(run), *paths, "--trainer.max_epochs=2", "--force=true"])
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["init_args"]["cache_dir"] == f"{home}/cache"
    assert config["trainer"]["callbacks"][0]["init_args"]["dirpath"] == f"{home}/own" and list(home.glob("own/*.ckpt"))
    assert config["trainer"]["default_root_dir"] == f"{home}/runs" and not Path("~").exists()


def test_ntasks_of_slurm_is_one_line(monkeypatch):
    for name, value in (("NTASKS", "4"), ("JOB_NAME", "train"), ("JOB_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(UserError, match="ntasks"):
        verbs.fit(["--config", "tiny.yaml", "--trainer.devices", "1"])


def test_interval_of_validation_longer_than_an_epoch(fit):
    with pytest.raises(ValueError, match="val_check_interval") as caught:
        fit("--config", "tiny.yaml", "--trainer.val_check_interval", "1000")
    assert "1000" in explain(caught.value)


def test_run_without_validation_and_test_says_so(fit, capsys):
    run = fit("--config", "tiny.yaml", "--trainer.limit_val_batches", "0", "--trainer.limit_test_batches", "0")
    assert "nothing is tested" in capsys.readouterr().out
    assert (run / "checkpoints/best.ckpt").is_file() and (run / "results.json").is_file()


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
def test_run_in_another_precision_is_trained_and_tested(precision, dtype, fit, capsys):
    run = fit("--config", "tiny.yaml", "--trainer.precision", precision)
    weights = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {dtype}
    capsys.readouterr()
    verbs.test([str(run)])
    assert "test/" in capsys.readouterr().out


def test_weights_in_half_precision_are_averaged_in_float32(fit):
    run = fit("--config", "tiny.yaml", "--trainer.precision", "bf16-true", "--trainer.callbacks", "kit.training.EMA")
    weights = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert weights["net.weight"].dtype == torch.float32


def test_timer_as_a_callback(fit):
    run = fit("--config", "tiny.yaml", "--trainer.callbacks", "Timer")
    timer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    assert timer["init_args"]["interval"] == "step"


@pytest.mark.parametrize("finder", ["BatchSizeFinder", "LearningRateFinder"])
def test_finder_is_refused(finder):
    with pytest.raises(UserError, match=f"leave out {finder}"):
        verbs.fit(["--config", "tiny.yaml", "--trainer.callbacks", finder])


RESUMED = [  # words of a command line that resumes a run, and words of the message
    (
        ["--trainer.callbacks+=LearningRateFinder", "--force", "true", "--trainer.max_epochs", "2"],
        "leave out LearningRateFinder",
    ),
    (["--trainer.max_steps", "0"], "trainer.max_steps is 0, with which nothing would be trained"),
]


@pytest.mark.parametrize(("args", "words"), RESUMED, ids=["a finder", "no step"])
def test_resumed_run_is_refused_before_it_trains_or_tests(args, words, fit):
    run = fit("--config", "tiny.yaml")
    before = {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()}
    with pytest.raises(UserError, match=words):
        verbs.fit(["--resume", str(run), *args])
    assert {file: file.read_bytes() for file in run.rglob("*.*") if file.is_file()} == before


def test_plain_module_may_name_its_net_otherwise():
    model = L.LightningModule()
    model.hparams["net"] = {"class_path": "torch.nn.Identity", "init_args": {}}
    save_arguments(model, Namespace())
    assert model.hparams["net"]["init_args"] == {}
