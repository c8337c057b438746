"""What a stranger's file may name; benchmarks/hostile.py walks over all functions and classes and uses what may be."""

import importlib
import sys
from inspect import isroutine
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HARMFUL = (
    *("project.checks.report.write", "project.replacing.replacing", "project.verbs.fit", "project.cli.CLI"),
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


def test_no_function_is_accepted_and_only_classes_that_are_listed(gadgets):
    own = {
        f"{module}.{name}": value
        for module, content in sorted(sys.modules.items())
        if module.startswith("project.") and "._" not in module
        for name, value in vars(content).items()
        if isroutine(value)
    }
    some = dict(list(own.items())[::10])
    every = {**some, **{path: gadgets.class_of(path) for path in (*HARMFUL, *HARMLESS)}}
    checked, found = gadgets.accepted(every, gadgets.places())
    assert checked > 500
    assert {gadget.path for gadget in found} == set(HARMLESS)


def test_arguments_that_would_do_harm(gadgets):
    from lightning.pytorch.loggers import CSVLogger

    from project.classification import TorchvisionDataset

    assert gadgets.harmful(CSVLogger, Path("/x"), there=False)["save_dir"] == "/x/new"
    found = gadgets.harmful(TorchvisionDataset, Path("/x"), there=True)
    assert (found["root"], found["download"], found["cache_dir"]) == ("/x/folder", True, "/x/folder")
