"""The TensorBoard logger: full disks and hyperparameters."""

import errno
import os
from argparse import Namespace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from kit.dashboard import TensorBoard


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


def test_scalars_of_many_classes_are_the_lowest_and_the_highest():
    logger = TensorBoard("runs/many/version_0")
    logger.log_metrics({"test/loss": 2.0, **{f"test/accuracy/{k}": k / 1000 for k in range(1000)}}, 1)
    logger.finalize("success")
    tags = EventAccumulator("runs/many/version_0").Reload().Tags()["scalars"]
    shown = {int(tag.split("/")[2]) for tag in tags if tag.startswith("test/accuracy/")}
    assert shown == {*range(10), *range(990, 1000)} and "test/loss" in tags


def test_invalid_value_raises_an_exception():
    with pytest.raises(ValueError, match="not supported"):
        TensorBoard("runs/odd/version_0").log_metrics({"train/loss": object()}, 1)


@pytest.mark.parametrize("kind", [dict, Namespace])
def test_nested_hyperparameters_become_flat(kind):
    given = {
        "widths": [1, 2],
        "net": {"class_path": "a.Net", "init_args": {"depth": 2}},
        "other": {"x": 1.5},
        "no": None,
    }
    logger = TensorBoard("runs/row/version_0")
    logger.log_hyperparams(kind(**given), {"best/val/accuracy": 0.5}, 1)
    logger.finalize("success")
    events = EventAccumulator("runs/row/version_0").Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {key: getattr(v, v.WhichOneof("kind")) for key, v in values.items()} == {
        "widths": "[1, 2]", "net": "Net", "net/depth": 2, "other/x": 1.5
    }  # fmt: skip
    assert events.Scalars("best/val/accuracy")[0].value == 0.5


def test_text_with_a_name_that_is_not_utf_8():
    logger = TensorBoard(".")
    logger.log_text("broken", "latin\udce9.png <b>", 3)
    logger.finalize("success")
    (text,) = EventAccumulator(".").Reload().Tensors("broken/text_summary")
    assert text.tensor_proto.string_val == [rb"latin\xe9.png &lt;b>"]
