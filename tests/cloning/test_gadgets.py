"""What a stranger's file may name; benchmarks/hostile.py walks over all functions and classes and uses what may be."""

import importlib
import os
import socket
import subprocess
import sys
import time
from functools import partial
from inspect import isroutine
from pathlib import Path
from types import ModuleType

import lightning as L
import pytest
import torch

from kit.config.annotations import import_path

REPOSITORY = Path(__file__).resolve().parents[2]
HARMFUL = (
    *("kit.ground.files.write_text", "kit.ground.files.replacing", "kit.cli.verbs.fit", "kit.cli.command_line.CLI"),
    *("torch.hub.load", "torch.load", "torch.save", "torch.compile", "torch.utils.data.DataLoader"),
    *("torchvision.models.get_model", "torchvision.datasets.ImageNet", "torchvision.datasets.Caltech101"),
    *("lightning.pytorch.callbacks.LambdaCallback", "lightning.pytorch.callbacks.BasePredictionWriter"),
    *("lightning.pytorch.loggers.WandbLogger", "lightning.pytorch.loggers.MLFlowLogger", "lightning.Trainer"),
    *("lightning.pytorch.profilers.PyTorchProfiler", "lightning.pytorch.strategies.DeepSpeedStrategy"),
    *("lightning.pytorch.plugins.environments.SLURMEnvironment", "lightning.pytorch.plugins.AsyncCheckpointIO"),
)
HARMLESS = ("torch.nn.Linear", "torch.optim.SGD", "torchvision.transforms.v2.Resize", "torchvision.datasets.MNIST")


@pytest.fixture
def gadgets(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("gadgets")


@pytest.fixture
def stage(tmp_path) -> Path:
    """A folder with a file that must stay as it is."""
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "precious").write_text("precious")
    return tmp_path / "stage"


def test_only_listed_classes_are_accepted(gadgets):
    own = {
        f"{module}.{name}": value
        for module, content in sorted(sys.modules.items())
        if module.startswith(("project.", "kit.")) and "._" not in module
        for name, value in vars(content).items()
        if isroutine(value)
    }
    some = dict(list(own.items())[::10])
    every = {**some, **{path: import_path(path) for path in (*HARMFUL, *HARMLESS)}}
    of_fit = gadgets.kinds_of_fit()
    found = [gadgets.accepted(every, place, gadgets.annotation(place, of_fit)) for place in gadgets.places()]
    assert sum(checked for checked, _ in found) > 500
    assert {path for _, paths in found for path in paths} == set(HARMLESS)


def test_arguments_that_would_do_harm(gadgets):
    from lightning.pytorch.loggers import CSVLogger

    from kit.zoo import TorchvisionNet
    from project.classification import TorchvisionDataset

    def of(kind: type, aim: str, given: int = 0) -> dict:
        return gadgets.harmful(gadgets.Gadget(gadgets.Place("x", list, "x", given), "x", kind), Path("/x"), aim)

    assert of(CSVLogger, "new")["save_dir"] == "/x/new"
    found = of(TorchvisionDataset, "folder")
    assert (found["root"], found["download"], found["cache_dir"]) == ("/x/folder", True, "/x/folder")
    assert of(torch.nn.Conv2d, "") == {"in_channels": 3, "out_channels": 3, "kernel_size": 3}
    assert of(TorchvisionNet, "", given=100) == {"pretrained": True}


def connect() -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=1)


def leave() -> None:
    subprocess.Popen(["sleep", "60"])


SIDE_EFFECTS = {
    "written": (partial(Path.write_text, Path("other"), "x"), ["open ", "another content: other"]),
    "written in C++": (partial(torch.save, {}, "other.pt"), ["another content: other.pt"]),
    "deleted": (partial(os.remove, "precious"), ["os.remove", "another content: precious"]),
    "started": (partial(os.system, "true"), ["os.system"]),
    "left": (leave, ["subprocess.Popen", "a process was left"]),
    "connected": (connect, ["socket.connect"]),
    "died": (partial(os._exit, 3), ["the process died"]),
}


def test_side_effects_outside_of_the_run_folder_are_reported(gadgets, stage):
    for done in gadgets.apart(lambda name: SIDE_EFFECTS[name][0](), SIDE_EFFECTS, stage):
        for effect in SIDE_EFFECTS[done.job][1]:
            assert any(effect in one for one in done.effects), done
    assert (stage / "precious").read_text() == "precious"


def test_files_in_the_run_folder_are_not_reported(gadgets, stage):
    def work(name: str) -> str:
        Path(name).mkdir()
        Path(name, "file").write_text("x")
        return name

    done = list(gadgets.apart(work, ["run", ".cache"], stage))
    assert sorted((one.job, one.result, one.effects) for one in done) == [(".cache", ".cache", []), ("run", "run", [])]


def test_job_that_hangs_is_ended(gadgets, stage):
    (done,) = gadgets.apart(time.sleep, [60], stage, seconds=0.2)
    assert any("ended by signal 9" in effect for effect in done.effects)


def test_job_that_takes_too_much_memory_is_reported(gadgets, stage, monkeypatch):
    monkeypatch.setattr("watched.GIGABYTES", 0.05)
    jobs = {done.job: done.effects for done in gadgets.apart(lambda count: len(b"x" * count), [10, 10**8], stage)}
    assert jobs == {10: [], 10**8: ["took 0.1 GB"]}


class Evil(L.Callback):
    def __init__(self) -> None:
        Path("touched").touch()


@pytest.mark.slow
def test_harmful_class_is_reported(gadgets, stage, monkeypatch):
    monkeypatch.setattr(gadgets.trust, "PACKAGES", (*gadgets.trust.PACKAGES, __name__.split(".")[0]))
    place = next(place for place in gadgets.places() if place.key == "trainer.callbacks")
    gadget = gadgets.Gadget(place, f"{__name__}.Evil", Evil)
    (done,) = gadgets.apart(gadgets.use, gadgets.aimed(gadget), stage)
    assert done.result.made
    assert any("touched" in effect for effect in done.effects)
