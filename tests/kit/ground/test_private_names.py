"""Private names of libraries exist; a version that changes one fails with that name."""

import ast
from pathlib import Path

import pytest
import torch
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.core.module import LightningModule
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.logger_connector import _LoggerConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.trainer.trainer import Trainer
from torch.optim.lr_scheduler import ChainedScheduler, SequentialLR
from torchvision.models.detection.rpn import RegionProposalNetwork
from transformers.loss import loss_lw_detr

import kit
from kit.config import _jsonargparse
from kit.ground import _torch

NAMES = {
    torch.Tensor: ["_version"],
    torch.nn.Module: ["_compiled_call_impl"],
    ChainedScheduler: ["_schedulers"],
    SequentialLR: ["_schedulers"],
    RegionProposalNetwork: ["_pre_nms_top_n", "_post_nms_top_n"],
    LightningModule: ["_on_before_batch_transfer"],
    WeightAveraging: ["_average_model", "_device"],
    EarlyStopping: ["_run_early_stopping_check", "_validate_condition_metric"],
    ModelCheckpoint: ["_save_topk_checkpoint", "_save_none_monitor_checkpoint", "_monitor_candidates"],
    _EvaluationLoop: ["_has_run"],
    _FitLoop: ["_should_accumulate", "_restarting", "_data_fetcher"],
    _TrainingEpochLoop: ["_batches_that_stepped"],
    Trainer: ["_signal_connector", "_logger_connector"],
    TensorBoardLogger: ["_experiment"],
    _SignalConnector: ["register_signal_handlers"],
    _LoggerConnector: ["_callback_metrics", "_first_loop_iter"],
    loss_lw_detr: ["_is_torch_distributed_initialized"],
    _jsonargparse._typehints: [_jsonargparse.DISCARD, "ActionTypeHint", "accepts_any_value"],
}
OVERRIDING = ("safeguards/checkpoints.py",)  # methods of Lightning's callbacks
LIBRARIES = ("torch", "torchvision", "lightning", "jsonargparse", "tensorboard", "torchmetrics")


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in NAMES.items() for name in names])
def test_private_name_exists(owner, name):
    source = Path(__import__("inspect").getsourcefile(owner)).read_text() if isinstance(owner, type) else ""
    assert hasattr(owner, name) or f"self.{name}" in source, f"{owner.__name__} has no {name} any more"


def test_private_functions_work():
    assert _torch.version_of(torch.zeros(2).add_(1)) == 1
    assert not _torch.is_compiled(torch.nn.Sequential(torch.nn.Linear(1, 1)))
    assert _torch.is_compiled(torch.nn.Sequential(torch.compile(torch.nn.Linear(1, 1))))
    in_place = torch.nn.Linear(1, 1)
    in_place.compile()
    assert _torch.is_compiled(torch.nn.Sequential(in_place))


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_only_listed_modules_import_private_names():
    root = Path(kit.__file__).parent
    allowed = {"ground/_torch.py", "ground/_lightning.py", "config/_jsonargparse.py"}
    found = set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                if any(map(private, parts)):
                    found.add(str(file.relative_to(root)))
    assert found <= {*allowed, "config/annotations.py", "exporting/graph.py"}
