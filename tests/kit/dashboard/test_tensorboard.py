"""The TensorBoard logger: full disks and hyperparameters."""

import errno
import os
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from kit.dashboard import TensorBoard
from kit.dashboard.tensorboard import settings


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_is_reported_and_logging_continues_later(monkeypatch, capsys):
    logger = TensorBoard("runs/full/version_0")
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.save()
    with monkeypatch.context() as patch:
        patch.setattr(logger.experiment, "add_scalar", full)
        logger.log_metrics({"train/loss": 2.0}, 2)
        patch.setattr(logger.experiment, "flush", full)
        logger.save()
    assert capsys.readouterr().err.count("could not be written (No space left on device)") == 1
    logger.log_metrics({"train/loss": 3.0}, 3)
    logger.finalize("success")
    # Each file alone, since their names only tell the order to the second.
    logs = [EventAccumulator(str(file)).Reload() for file in Path("runs/full/version_0").glob("*tfevents*")]
    events = [event for log in logs if "train/loss" in log.Tags()["scalars"] for event in log.Scalars("train/loss")]
    assert sorted((event.step, event.value) for event in events) == [(1, 1.0), (3, 3.0)]


def test_metrics_of_single_classes_are_no_scalars():
    logger = TensorBoard("runs/classes/version_0")
    keys = ["val/miou", "val/iou/cat", "test/iou/a/b", "learning_rate/1", "val/loss/dataloader_idx_1", "epoch"]
    logger.log_metrics(dict.fromkeys(keys, 0.5), 1)
    logger.finalize("success")
    scalars = EventAccumulator("runs/classes/version_0").Reload().Tags()["scalars"]
    assert set(scalars) == {"val/miou", "learning_rate/1", "val/loss/dataloader_idx_1"}


def test_invalid_value_raises_an_exception():
    with pytest.raises(ValueError, match="not supported"):
        TensorBoard("runs/odd/version_0").log_metrics({"train/loss": object()}, 1)


CONFIG = {
    "name": "run",
    "seed_everything": 3,
    "trainer": {"max_epochs": 7, "max_time": None, "default_root_dir": "runs/run/version_0"},
    "model": {
        "class_path": "a.Net",
        "init_args": {"widths": [1, 2], "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}}},
    },
    "data": {
        "class_path": "a.Data",
        "init_args": {
            "num_workers": 4,
            "augment": [{"class_path": "b.Flip"}, {"class_path": "b.Shift", "init_args": {"share": 0.1}}],
        },
    },
}
SETTINGS = {
    "seed_everything": 3, "trainer.max_epochs": 7, "model": "a.Net", "model.widths": "[1, 2]",
    "model.optimizer": "torch.optim.SGD", "model.optimizer.lr": 0.5, "data": "a.Data",
    "data.augment": "b.Flip, b.Shift", "data.augment.share": 0.1,
}  # fmt: skip


def test_settings_of_a_run_are_columns_of_the_table_of_runs():
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG))
    assert settings(Path("config.yaml")) == SETTINGS
    logger = TensorBoard("runs/row/version_0")
    logger.log_settings(SETTINGS)
    logger.finalize("success")
    events = EventAccumulator("runs/row/version_0").Reload()
    assert "_hparams_/experiment" not in events.summary_metadata  # it would hide the metrics of other tasks
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()} == SETTINGS


def test_text_with_a_name_that_is_not_utf_8():
    logger = TensorBoard(".")
    logger.log_text("broken", "latin\udce9.png <b>", 3)
    logger.finalize("success")
    (text,) = EventAccumulator(".").Reload().Tensors("broken/text_summary")
    assert text.tensor_proto.string_val == [rb"latin\xe9.png &lt;b>"]
