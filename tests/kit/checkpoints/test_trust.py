"""Which names a stranger's checkpoint or run may contain; all others are refused in one line."""

import copy
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from torch import nn

from kit.checkpoints import trust
from kit.cli import verbs
from kit.cli.settings import explain
from kit.config.annotations import NN_MODULE, Expected, parameter_annotations
from kit.ground.errors import UserError
from kit.ground.unexpected import describe

PARTS = Path(__file__).resolve().parents[1] / "parts"
FILE = Path("some.ckpt")
V2 = "torchvision.transforms.v2"
RULED = {"class_path": "os.system", "init_args": {"command": "touch touched"}}
SCHEDULES = "torch.optim.lr_scheduler"
ELASTIC = "torch.distributed.elastic.multiprocessing.subprocess_handler"  # whose class starts a process


@pytest.fixture(autouse=True)
def nothing_foreign_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(PARTS))
    yield
    assert "foreign" not in sys.modules
    assert not Path("touched").exists()


@pytest.fixture
def without_tiny_task(monkeypatch):
    monkeypatch.setattr(trust, "PACKAGES", tuple(name for name in trust.PACKAGES if name != "tiny_task"))


def check(model: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **more) -> None:
    content = {
        "hyper_parameters": {"_class_path": "strangers.Task", "_instantiator": "written.by.lightning", **(model or {})},
        "datamodule_hyper_parameters": {"_class_path": "strangers.Data", **(data or {})},
    }
    trust.check_checkpoint({**content, **more}, FILE, ["strangers"])


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


ALLOWED = [
    {"net": spec("strangers.Net", norm="torch.nn.InstanceNorm2d", activation=spec("torch.nn.ReLU"))},
    {"net": "strangers.Net", "optimizer": spec("torch.optim.AdamW", lr=0.1, betas=[0.9, 0.99])},
    {"schedule": spec("kit.training.schedule.WarmupCosine", warmup=0.2)},
    {"schedule": spec(f"{SCHEDULES}.SequentialLR", schedulers=[spec(f"{SCHEDULES}.ConstantLR")], milestones=[3])},
    {"schedule": spec(f"{SCHEDULES}.LambdaLR", lr_lambda="strangers.half")},
    {"losses": ["torch.nn.L1Loss", spec("torch.nn.MSELoss")]},
    {"losses": {"a": "torch.nn.L1Loss"}},
    {"sizes": {"width": 4, "measure": "strangers.half"}},
    {"scale": "strangers.half", "dtype": "torch.float16"},
    {"scale": "no path", "title": "os.system", "anything": ["os.system", {"a": 1.5}], "more": "os.system"},
    {"anything": {1: float("nan")}, "untyped": "{a: [1, 2]}"},
]


@pytest.mark.parametrize("model", ALLOWED, ids=str)
def test_classes_of_the_expected_kind_are_accepted(model):
    check(model)


def test_nested_transforms_are_accepted():
    inner = [spec(f"{V2}.ColorJitter", brightness=0.2), f"{V2}.RandomHorizontalFlip"]
    check(data={"augment": [spec(f"{V2}.RandomApply", transforms=inner, p=0.5), spec(f"{V2}.Resize", size=[3, 4])]})


REFUSED = [  # the model's values, where, and the error message
    ({"net": RULED}, "net", "'os' is not trusted"),
    ({"net": "os.system"}, "net", "'os' is not trusted"),
    ({"net": spec("subprocess.Popen", args=["touch", "touched"])}, "net", "'subprocess' is not trusted"),
    ({"net": "builtins.eval"}, "net", "'builtins' is not trusted"),
    ({"net": "foreign.net"}, "net", "add --trust foreign"),
    ({"net": "strangers_more.Net"}, "net", "add --trust strangers_more"),
    ({"net": "torch.os.system"}, "net", "not on the list of names that a file may use"),
    ({"net": "torch.hub.Path"}, "net", "not on the list"),
    ({"net": "kit.cli.command_line.LightningCLI"}, "net", "another name of 'lightning.pytorch.cli.LightningCLI'"),
    ({"net": "torch.hub.load"}, "net", "add --trust torch.hub.load"),
    ({"net": "torch.load"}, "net", "not on the list"),
    ({"net": spec("kit.ground.files.write_text", file="touched", content="")}, "net", "a function"),
    ({"net": {"class_path": "kit.ground.files.write_text", "dict_kwargs": {"x": 1}}}, "net", "a function"),
    ({"net": "kit.ground.errors.did_you_mean"}, "net", "a function, where a class belongs"),
    ({"net": "strangers_more.net"}, "net", "add --trust strangers_more"),
    ({"net": spec("torch.nn.functional.relu")}, "net", "not on the list"),
    ({"net": "torch.nn.utils.prune.random_structured"}, "net", "not on the list"),
    ({"net": "torch.hub.nn.Linear"}, "net", "not on the list"),
    ({"net": "torchvision.models.ResNet"}, "net", "not on the list"),
    ({"net": "timm.models.ResNet"}, "net", "not trusted"),
    ({"optimizer": spec("kit.ground.files.write_text", file="touched", content="")}, "optimizer", "a function"),
    ({"schedule": spec("kit.ground.files.write_text", file="touched", content="")}, "schedule", "a function"),
    ({"schedule": "torch.optim.AdamW"}, "schedule", "is not of the class LRScheduler"),
    ({"profiler": "PyTorchProfiler"}, "profiler", "whole class path"),
    ({"net": "torch._C._nn.gelu"}, "net", "not on the list"),
    ({"net": "torch.optim.SGD"}, "net", "is not of the class Module"),
    ({"net": "torch.nn.Nothing"}, "net", "cannot be imported"),
    ({"net": "kit.samples.features.TorchvisionFeatures"}, "net", "made by an earlier version? Then train again"),
    ({"net": "CNN"}, "net", "must be a whole class path"),
    ({"net": spec("strangers.Net", norm="torch.optim.SGD")}, "net.norm", "is not of the class Module"),
    ({"net": spec("strangers.Net", activation=RULED)}, "net.activation", "'os' is not trusted"),
    ({"net": {"class_path": "strangers.Net", "dict_kwargs": {"norm": "foreign.net"}}}, "net.norm", "foreign"),
    ({"net": {"class_path": "strangers.Net", "init_args": "foreign.yaml"}}, "net.init_args", "map names"),
    ({"net": {"class_path": ["os.system"]}}, "net", "a list, which is not a class path"),
    ({"net": {"init_args": {"norm": "foreign.net"}}}, "net", "must give its class_path"),
    ({"net": "{class_path: os.system}"}, "net", "'os' is not trusted"),
    ({"net": '{"class\\x5fpath": os.system}'}, "net", "'os' is not trusted"),
    ({"optimizer": spec("torch.nn.Linear")}, "optimizer", "is not of the class Optimizer"),
    ({"schedule": spec(f"{SCHEDULES}.LambdaLR", lr_lambda="os.system")}, "schedule.lr_lambda", "'os'"),
    ({"schedule": spec(f"{SCHEDULES}.LambdaLR", lr_lambda=["torch.load"])}, "schedule.lr_lambda[0]", "torch"),
    ({"schedule": {"lr_lambda": "os.system"}}, "schedule", "must give its class_path"),
    ({"losses": ["torch.nn.L1Loss", RULED]}, "losses[1]", "'os'"),
    ({"losses": {"a": {"b": RULED}}}, "losses.a", "must give its class_path"),
    ({"losses": "losses.txt"}, "losses", ", or a list"),
    ({"sizes": {"measure": "os.system"}}, "sizes.measure", "'os'"),
    ({"scale": "os.system"}, "scale", "'os'"),
    ({"scale": "present"}, "scale", "would open as a file"),
    ({"dtype": "torch.nn"}, "dtype", "not on the list"),
    ({"net": "torch.float16"}, "net", "is not of the class Module"),
    ({"anything": RULED}, "anything", "'os'"),
    ({"anything": [{"a": RULED}]}, "anything[0].a", "'os'"),
    ({"anything": spec(f"{ELASTIC}.SubprocessHandler")}, "anything", "not on the list"),
    ({"anything": spec("torch.optim.SGD")}, "anything", "is not of the class Module"),
    ({"anything": "[{class_path: os.system}]"}, "anything[0]", "'os'"),
    ({"anything": {"__path__": "x"}}, "anything", "'__path__'"),
    ({"net.class_path": "os.system"}, "", "'net.class_path', which is not a name"),
    (
        {"net": spec("strangers.Net", **{"norm.class_path": "os.system"})},
        "net",
        "'norm.class_path', which is not",
    ),
    ({"sizes": {"measure.class_path": "os.system"}}, "sizes", "'measure.class_path', which is not an argument"),
    ({"sizes": {"measure+": "os.system"}}, "sizes", "'measure+', which is not an argument"),
    ({"anything": {"x.class_path": "os.system"}}, "anything", "'x.class_path', which is not an argument"),
    ({"untyped": RULED}, "untyped", "'os'"),
    ({"more": RULED}, "more", "'os'"),
    ({"anything": torch.zeros(2)}, "anything", "a Tensor, which is not a plain value"),
    ({"_class_path": "os.system"}, "", "'os' is not trusted"),
    ({"_class_path": "strangers.Net"}, "", "is not of the class LightningModule"),
    ({"_class_path": 3}, "", "an int, which is not a class path"),
]


@pytest.mark.parametrize(("model", "where", "expected"), REFUSED, ids=lambda part: str(part)[:60])
def test_other_names_are_refused_with_their_key(model, where, expected):
    Path("present").write_text("class_path: os.system")
    with pytest.raises(UserError) as caught:
        check(model)
    message = str(caught.value).replace("a int", "an int")
    assert message.startswith(f"some.ckpt: hyper_parameters{where and '.'}{where} ")
    assert expected in message and "\n" not in message
    assert "--trust os" not in message
    assert (where == "losses") is message.endswith(", or a list")  # of the keys here, only this one takes a list


def test_names_of_the_data_module_are_checked():
    with pytest.raises(UserError, match=r"datamodule_hyper_parameters\.augment\[0\]\.lambd names 'os\.system'"):
        check(data={"augment": [spec(f"{V2}.Lambda", lambd="os.system")]})
    with pytest.raises(UserError, match=r"datamodule_hyper_parameters\.augment\[0\] .* is not of the class Transform"):
        check(data={"augment": ["torch.nn.ReLU"]})
    with pytest.raises(UserError, match=r"datamodule_hyper_parameters names 'strangers\.Task', .* LightningDataModule"):
        check(data={"_class_path": "strangers.Task"})
    with pytest.raises(UserError, match="datamodule_hyper_parameters is a list"):
        check(datamodule_hyper_parameters=[RULED])


def test_function_can_be_trusted():
    values = {"_class_path": "strangers.Task", "scale": "torch.nn.functional.relu"}
    with pytest.raises(UserError, match=r"add --trust torch\.nn\.functional"):
        trust.check_checkpoint({"hyper_parameters": values}, FILE, ["strangers"])
    trust.check_checkpoint({"hyper_parameters": values}, FILE, ["strangers", "torch.nn.functional"])
    with pytest.raises(UserError, match=r"a function, .* add --trust kit\.ground\.errors\.did_you_mean"):
        check({"scale": "kit.ground.errors.did_you_mean"})


def test_class_can_be_named_by_its_defining_module():
    check({"optimizer": "torch.optim.adamw.AdamW", "net": spec("torch.nn.modules.linear.Linear", in_features=3)})


def test_nesting_and_size_are_limited():
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(UserError, match="nested too deeply"):
        check({"anything": deep})
    wide: Any = [1]
    for _ in range(40):  # what YAML can say in a few lines
        wide = [wide, wide]
    with pytest.raises(UserError, match="too large"):
        check({"anything": wide})


class Size(Enum):
    SMALL = 1


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str | None, Expected(text=True)),
        (Literal["a"] | Size | Path, Expected(text=True)),
        (Any, Expected(text=True, anything=True)),
        (nn.Module, Expected(classes=[nn.Module])),
        (list[nn.Module] | bool, Expected(text=True, items=[nn.Module])),
        (tuple[int, ...], Expected(items=[int])),
        (dict[str, nn.Module], Expected(values=[nn.Module])),
        (Sequence, Expected(items=[Any])),
        (Callable, Expected(classes=[NN_MODULE])),
        (Callable[[int], float], Expected(classes=[NN_MODULE])),
        (Callable[..., torch.optim.Optimizer], Expected(classes=[torch.optim.Optimizer])),
        (type[torch.optim.Optimizer], Expected(classes=[torch.optim.Optimizer])),
    ],
    ids=str,
)
def test_expected_values_of_an_annotation(annotation, expected):
    assert Expected.any_of([annotation]) == expected


def test_annotations_of_inherited_parameters():
    from strangers import Task
    from tiny_task import Shades

    assert parameter_annotations(Shades)["cache"] == Literal["none", "ram", "disk"]
    assert parameter_annotations(Task)["title"] is str


@pytest.fixture
def run() -> Path:
    """Train the tiny task for an epoch."""
    tiny = {
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "default_root_dir": "runs"},
        "model": {"class_path": "tiny_task.Judge"},
        "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8}},
    }
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny))
    verbs.fit(["--config", "tiny.yaml"])
    return Path("runs/tiny/version_0")


def test_own_package_is_trusted_by_an_option(run, without_tiny_task, capsys):
    for verb in (verbs.test, lambda args: verbs.fit(["--resume", *args])):
        with pytest.raises(UserError, match=r"hyper_parameters names 'tiny_task\.Judge', .* add --trust tiny_task"):
            verb([str(run)])
        capsys.readouterr()
        for epochs, options in ((2, ["--trust", "tiny_task"]), (3, ["--trust=foreign", "--trust=tiny_task"])):
            verb([str(run), *options, f"--trainer.max_epochs={epochs}"])
            assert "test/accuracy" in capsys.readouterr().out


def changed(run: Path, *keys: str, to: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    inside = config
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = to
    (run / "config.yaml").write_text(yaml.safe_dump(config))


LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"
ENVIRONMENT = "lightning.pytorch.plugins.environments.MPIEnvironment"
RUN_CONFIGS = [
    (["trainer", "callbacks"], [spec(LAMBDA, on_fit_start="os.system")], r"trainer\.callbacks\[0\] names .*LambdaC"),
    (["trainer", "callbacks"], spec(LAMBDA, on_fit_start="torch.load"), r"trainer\.callbacks names .*LambdaC"),
    (["trainer", "callbacks"], "more/callbacks.yaml", r"trainer\.callbacks is 'more/callbacks\.yaml'"),
    (["trainer", "logger"], RULED, r"trainer\.logger names 'os\.system'"),
    (["trainer", "strategy"], "present", r"trainer\.strategy is 'present', .* as a file"),
    (["trainer", "logger"], spec("lightning.pytorch.loggers.MLFlowLogger"), r"trainer\.logger names .*MLFlowLogger'"),
    (["trainer", "plugins"], [spec(ENVIRONMENT)], r"trainer\.plugins\[0\] names .*MPIEnvironment'"),
    (["trainer", "profiler"], "PyTorchProfiler", r"trainer\.profiler is 'PyTorchProfiler'.* whole class path"),
    (["trainer"], "present", "trainer is 'present', but must map"),
    (["model"], "present", "model is 'present', but must be a whole class path"),
    (["data", "init_args", "augment"], [RULED], r"data\.augment\[0\] names 'os\.system'"),
    (["config"], "present", "the config has the key 'config'"),
    (["trust"], "os", "the config has the key 'trust'"),
]


@pytest.mark.parametrize(("keys", "value", "expected"), RUN_CONFIGS, ids=lambda part: str(part)[:60])
def test_config_of_a_strangers_run_is_checked(run, keys, value, expected):
    (run / "present").write_text(yaml.safe_dump(RULED))
    changed(run, *keys, to=value)
    with pytest.raises(UserError, match=rf"config\.yaml: {expected}") as caught:
        verbs.fit(["--resume", str(run)])
    assert "\n" not in str(caught.value)


def test_os_is_refused_on_the_command_line(run):
    with pytest.raises(UserError, match=r"os\.system"):
        verbs.fit(["--config", "tiny.yaml", "--trainer.logger", "os.system"])


def test_weights_that_do_not_fit(run):
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    weight = content["state_dict"]["net.weight"]
    for state, expected in (
        ({}, r"net\.weight.*net\.bias"),
        (3, "TypeError|int"),
        ({**content["state_dict"], "net.weight": weight.T}, r"net\.weight"),
        ({**content["state_dict"], "net.weight": 3}, r"net\.weight"),
        ({**content["state_dict"], "more": weight}, "more"),
    ):
        torch.save({**content, "state_dict": state}, "other.ckpt")
        with pytest.raises(UserError, match=rf"other\.ckpt: the weights do not fit .*{expected}"):
            verbs.test(["other.ckpt"])
        torch.save({**content, "state_dict": state}, run / "checkpoints/last.ckpt")
        with pytest.raises(Exception) as raised:
            verbs.fit(["--resume", str(run), "--trainer.max_epochs", "2"])
        message = str(raised.value) if isinstance(raised.value, UserError) else explain(raised.value)
        assert "last.ckpt" in message and "cannot be restored" in message


def test_later_exceptions_name_the_checkpoint(run):
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    for part in ("Shades", "datamodule_hyper_parameters"):
        torch.save({**content, part: None}, "other.ckpt")
        with pytest.raises(Exception, match=r"other\.ckpt"):
            verbs.test(["other.ckpt"])


OTHERS = (
    None,
    -1,
    10**30,
    float("nan"),
    "",
    "a\nb",
    "x" * 9999,
    [],
    {},
    [[None]],
    {1: 2},
    RULED,
    [RULED],
    str(RULED),
)


def containers(value: Any) -> list[tuple[Any, Any]]:
    """Return all pairs of a container and a key in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [pair for key, inside in items for pair in ((value, key), *containers(inside))]


@pytest.mark.parametrize("seeds", [range(9), pytest.param(range(9, 39), marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("verb", ["test", "resume"])
def test_damaged_checkpoints_work_or_end_in_one_line(run, verb, seeds):
    file = run / "checkpoints" / ("best.ckpt" if verb == "test" else "last.ckpt")
    intact, content = file.read_bytes(), torch.load(file, weights_only=True)
    shutil.copytree(run, "intact")
    refused = 0
    for seed in seeds:
        shutil.rmtree(run)
        shutil.copytree("intact", run)  # without the checkpoints that an earlier round has written
        dice = random.Random(seed)
        damaged = bytearray(intact)
        if seed % 3 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        elif seed % 3 == 1:
            for _ in range(200):
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        file.write_bytes(damaged)
        if seed % 3 == 2:
            other = copy.deepcopy(content)
            container, key = dice.choice(containers(other))
            container[key] = dice.choice(OTHERS)
            torch.save(other, file)
        try:
            verbs.test([str(file)]) if verb == "test" else verbs.fit(["--resume", str(run), "--trainer.max_epochs=2"])
        except Exception as error:
            message = str(error) if isinstance(error, UserError) else explain(error) or describe(error)
            assert "\n" not in message
            refused += 1
    assert refused >= len(seeds) / 2
