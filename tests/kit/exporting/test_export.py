"""The verb `export` writes files of a run, and compares them with PyTorch before they get their names."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from lightning import LightningModule
from tiny_run import made_once

from kit.exporting import command, export
from kit.exporting.agreement import as_input, noise
from kit.exporting.graph import open_onnx
from kit.ground.errors import UserError
from kit.prediction import load

CONFIG = """
trainer: {max_epochs: 1}
model: {class_path: tiny_task.Carried}
data: {class_path: tiny_task.Shades}
name: tiny
"""


@pytest.fixture(scope="module")
def trained(once):
    return made_once(once, "tiny_carried", CONFIG)


@pytest.fixture
def run(trained) -> Path:
    return Path(shutil.copytree(trained, "run"))


def changed(run: Path, **changes) -> Path:
    """Return a checkpoint of the run with other hyper-parameters of its data."""
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    content["datamodule_hyper_parameters"].update(changes)
    file = run / "checkpoints" / "changed.ckpt"
    torch.save(content, file)
    return file


def test_default_file_is_in_the_run_folder(run, capsys):
    export([str(run)])
    file = run / "exports" / "model.onnx"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file}: ") and len(lines) == 2
    onnx.checker.check_model(file)
    assert "difference of a probability" in lines[1] and "0.0001 allowed, on 11 images of test" in lines[1]
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    model = load(run, "cpu")
    run_file = open_onnx(file)
    for image in noise(model.preprocessing):
        expected = model.predict([image])[0]
        assert torch.allclose(run_file(as_input(image))["probabilities"][0], expected, atol=0.01)


def test_file_contains_metadata(run):
    export([str(run)])
    metadata = {entry.key: entry.value for entry in onnx.load(run / "exports/model.onnx").metadata_props}
    assert metadata["task"] == "judging"
    assert json.loads(metadata["class_names"]) == ["dark", "grey", "light"]
    assert json.loads(metadata["outputs"]) == ["probabilities"]
    how = json.loads(metadata["preprocessing"])
    assert (how["channels"], how["size"], how["keep_aspect"]) == (3, [6, 8], False) and len(how["mean"]) == 3


def test_file_that_disagrees_with_pytorch_is_removed(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "forward", lambda self, images, *_: (self.net(images.flatten(1)),))
    monkeypatch.setattr(tiny_task.Answer, "harmless_cause", "equal scores")
    with pytest.raises(UserError, match=r"does not agree with PyTorch .* difference of a.*; equal scores$") as raised:
        export([str(run)])
    assert raised.value.exit_code == 1
    assert not list((run / "exports").iterdir())


def test_module_without_plain_is_compared_as_it_is():
    model = SimpleNamespace(task=LightningModule())
    assert command.reference_model(model, SimpleNamespace(left_out="non-maximum suppression")) is model


def test_earlier_file_stays_if_the_new_one_disagrees(run, monkeypatch):
    import tiny_task

    export([str(run)])
    before = (run / "exports/model.onnx").read_bytes()
    monkeypatch.setattr(tiny_task.Answer, "tolerance", -1.0)
    with pytest.raises(UserError):
        export([str(run)])
    assert (run / "exports/model.onnx").read_bytes() == before


def test_outputs_that_are_wrong_only_in_a_batch_disagree(run, monkeypatch):
    import tiny_task

    def forward(self, images, *_):
        probabilities = self.net(images.flatten(1)).softmax(1)
        return (probabilities.mean(0, keepdim=True).expand_as(probabilities),)

    monkeypatch.setattr(tiny_task.Answer, "forward", forward)
    with pytest.raises(UserError, match="does not agree"):
        export([str(run)])


def test_noise_is_compared_without_data(run, capsys):
    export([str(changed(run, test=0, train=0)), "--out", "there.onnx"])
    output = capsys.readouterr()
    assert "0.0001 allowed, on 3 images of noise\n" in output.out and Path("there.onnx").is_file()
    why = "neither test nor val has an image"
    assert output.err == f"warning: compared on noise, since the run's data cannot be read ({why})\n"


def test_val_images_are_compared_without_test_images(run, capsys):
    export([str(changed(run, test=0, val=5))])
    assert "on 5 images of val" in capsys.readouterr().out


def test_data_are_not_read_for_a_checkpoint_outside_of_a_run(run, monkeypatch, capsys):
    """The checkpoint may be a stranger's and name any files."""
    import tiny_task

    file = shutil.copy(run / "checkpoints/best.ckpt", "stranger.ckpt")
    monkeypatch.setattr(tiny_task.Shades, "load_split", lambda *_: pytest.fail("the data are read"))
    export([file])
    output = capsys.readouterr()
    assert "on 3 images of noise" in output.out and "stranger.ckpt is not in a run's folder" in output.err
    assert Path("exports/model.onnx").is_file()


def test_bug_in_a_data_module_is_raised(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Shades, "load_split", lambda self, split: {}[split])
    with pytest.raises(KeyError):
        export([str(run)])
    assert not list(run.glob("exports/*"))


def test_without_objects_nothing_could_be_compared(run, monkeypatch, capsys):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "counted", "moles")
    export([str(run)])
    assert "allowed, on 33 moles in 11 images of test" in capsys.readouterr().out
    monkeypatch.setattr(tiny_task.Answer, "count", lambda *_: 0)
    export([str(run)])
    output = capsys.readouterr().out
    assert "nothing could be compared: PyTorch finds no moles in 11 images of test" in output
    assert "agrees" not in output


def test_file_that_cannot_be_run_is_removed(run, monkeypatch):
    def open_broken(file):
        def run(images):
            raise RuntimeError("no such kernel")

        return run

    monkeypatch.setattr(command, "open_onnx", open_broken)
    with pytest.raises(RuntimeError, match="no such kernel") as raised:
        export([str(run)])
    assert "best.ckpt" in raised.value.__notes__[0]
    assert not list((run / "exports").iterdir())


def test_bug_in_the_comparison_is_raised(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "difference", lambda *_: {}["masks"])
    with pytest.raises(KeyError):
        export([str(run)])
    assert not list((run / "exports").iterdir())


@pytest.mark.parametrize("args", [["--trust", "tiny_task", "run", "--out", "X.ONNX"], ["--out=X.ONNX", "run"]])
def test_options_before_and_after_the_run(run, args):
    export(args)
    assert Path("X.ONNX").is_file()


@pytest.mark.parametrize(
    "args, message",
    [
        (["run", "--out", "run"], "run must end with .onnx"),
        (["run", "--out", "folder.onnx"], "folder.onnx cannot be written: it is a folder; give a file's name"),
        (["run", "--out", "x.pt2"], "x.pt2 must end with .onnx"),
        (["run", "--out", "run/config.yaml/m.onnx"], "run/config.yaml/m.onnx cannot be written: .*config.yaml is no"),
    ],
)
def test_output_path_is_checked_first(run, args, message, monkeypatch):
    Path("folder.onnx").mkdir()
    monkeypatch.setattr(command, "load", lambda *_: pytest.fail("it is too late"))
    with pytest.raises(UserError, match=message):
        export(args)


def test_missing_packages_are_reported(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"export needs onnxruntime: pip install .*export"):
        export([str(run)])


def test_untrusted_run_is_refused(run, monkeypatch, capsys):
    from kit.checkpoints import trust

    monkeypatch.setattr(trust, "PACKAGES", ("kit", "torch"))
    with pytest.raises(UserError, match="'tiny_task' is not trusted"):
        export([str(run)])
    export([str(run), "--trust", "tiny_task"])
    assert "on 11 images of test" in capsys.readouterr().out


def test_unsupported_operation_is_reported(run, monkeypatch):
    import tiny_task

    def forward(self, images, *_):
        raise RuntimeError("no such operation\nand a page of more")

    monkeypatch.setattr(tiny_task.Answer, "forward", forward)
    with pytest.raises(RuntimeError, match="no such operation"):
        export([str(run)])
    assert not list((run / "exports").iterdir())


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "which run"),
        (["--out", "x.onnx"], "which run"),
        (["gone"], "no run folder or checkpoint"),
        (["run", "--ot", "x.onnx"], "no key 'ot'; did you mean --out x.onnx"),
        (["run", "--out", "run/config.yaml/model.onnx"], "cannot be written"),
    ],
)
def test_wrong_arguments_are_refused(run, args, message):
    with pytest.raises(UserError, match=message):
        export(args)


def test_task_without_exported_is_refused(run, monkeypatch):
    import tiny_task

    monkeypatch.delattr(tiny_task.Carried, "exported")
    with pytest.raises(UserError, match="Carried has no `exported`"):
        export([str(run)])
