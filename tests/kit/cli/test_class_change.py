"""The arguments that a class keeps from the class that it replaces, in a config or on the command line."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jsonargparse import _typehints

from kit.cli.command_line import CLI
from kit.config import _jsonargparse
from kit.ground.errors import UserError

TINY = {
    "model": {
        "class_path": "chosen_task.Chosen",
        "init_args": {
            "net": {"class_path": "chosen_task.Layer", "init_args": {"scale": 0.75}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003, "weight_decay": 0.05}},
            "schedule": {
                "class_path": "kit.training.schedule.WarmupCosine",
                "init_args": {"warmup": 0.3, "final": 0.2},
            },
        },
    },
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 17}},
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CLI]:
    """Return a function that reads a command line and the tiny config, and builds no objects."""
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.setattr(CLI, "instantiate_classes", lambda self: None)
    monkeypatch.setattr(CLI, "_add_instantiators", lambda self: None)
    return lambda *args: CLI(["--config", "tiny.yaml", *args])


@pytest.mark.parametrize("where", ["command line", "config"])
def test_new_optimizer_keeps_only_the_learning_rate(read, where, capsys):
    Path("adam.yaml").write_text("model: {init_args: {optimizer: {class_path: torch.optim.Adam}}}")
    cli = read(*(["--config", "adam.yaml"] if where == "config" else ["--model.optimizer", "torch.optim.Adam"]))
    arguments = cli.config.model.init_args.optimizer.init_args
    assert (arguments.lr, arguments.weight_decay) == (0.003, 0.0)
    (line,) = capsys.readouterr().out.splitlines()
    assert all(word in line for word in ("Adam ", "AdamW", "0.003"))


def test_given_arguments_override_kept_ones(read, capsys):
    cli = read("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.5", "--model.optimizer.momentum=0.9")
    arguments = cli.config.model.init_args.optimizer.init_args
    assert (arguments.lr, arguments.momentum, arguments.weight_decay) == (0.5, 0.9, 0.0)
    assert not capsys.readouterr().out


def test_arguments_beside_the_class_path_are_used(read):
    cli = read("--model.optimizer", "{class_path: torch.optim.SGD, init_args: {weight_decay: 0.1}}")
    arguments = cli.config.model.init_args.optimizer.init_args
    assert (arguments.lr, arguments.weight_decay) == (0.003, 0.1)


def test_same_class_keeps_all_arguments(read, capsys):
    cli = read("--model.optimizer", "torch.optim.AdamW", "--model.optimizer.lr", "0.5")
    assert cli.config.model.init_args.optimizer.init_args.weight_decay == 0.05
    assert not capsys.readouterr().out


def test_new_schedule_has_its_defaults_and_other_classes_keep_shared_arguments(read):
    others = ["--model.net", "chosen_task.OtherLayer", "--data", "chosen_task.OtherShades"]
    cli = read("--model.schedule", "chosen_task.Short", *others)
    assert cli.config.model.init_args.schedule.init_args.warmup == 0.125
    assert cli.config.model.init_args.net.init_args.scale == 0.75
    assert cli.config.data.init_args.batch_size == 17


def test_replaced_function_of_jsonargparse_is_restored(read):
    discard = getattr(_typehints, _jsonargparse.DISCARD)
    assert list(inspect.signature(discard).parameters) == ["parser_or_action", "prev_val", "value"]
    read()
    assert getattr(_typehints, _jsonargparse.DISCARD) is discard


@pytest.mark.parametrize("where", ["command line", "config"])
def test_rate_given_with_the_new_class_is_not_reported_as_kept(read, where, capsys):
    adam = "{class_path: torch.optim.Adam, init_args: {lr: 0.003}}"
    Path("adam.yaml").write_text(f"model: {{init_args: {{optimizer: {adam}}}}}")
    cli = read(*(["--config", "adam.yaml"] if where == "config" else ["--model.optimizer", adam]))
    assert cli.config.model.init_args.optimizer.init_args.lr == 0.003
    assert not capsys.readouterr().out


@pytest.mark.parametrize("given", [["--model.net.file=null"], ["--model.net.file", "null"], ["--model.net.file=~"]])
def test_null_replaces_the_text_of_a_config(read, given):
    Path("file.yaml").write_text("model: {init_args: {net: {class_path: chosen_task.Layer, init_args: {file: a.pt}}}}")
    assert read("--config", "file.yaml").config.model.init_args.net.init_args.file == "a.pt"
    assert read("--config", "file.yaml", *given).config.model.init_args.net.init_args.file is None


def test_null_is_refused_where_it_has_no_meaning(read):
    with pytest.raises(UserError, match=r"^data\.batch_size is null, but must be a whole number above 0$"):
        read("--data.batch_size=null")
    assert read("--data.augment=null").config.data.init_args.augment is None
    assert read("--model.net.scale=null").config.model.init_args.net.init_args.scale is None  # not a class of ours
