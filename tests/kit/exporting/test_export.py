"""The verb: files of a run, tried before they get their names."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import made_once

from kit.exporting import command, export
from kit.exporting.agreement import as_input
from kit.exporting.example_images import noise
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
    """A checkpoint of the run with other hyper-parameters of its data."""
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    content["datamodule_hyper_parameters"].update(changes)
    file = run / "checkpoints" / "changed.ckpt"
    torch.save(content, file)
    return file


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_file_in_the_runs_folder(run, form, capsys):
    export([str(run), "--format", form])
    file = run / "exports" / f"model.{form}"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file}: ") and len(lines) == 3
    assert "difference of a probability" in lines[1] and "0.0001 allowed, on 11 images of test" in lines[1]
    assert f"{form} " in lines[2] and "PyTorch " in lines[2] and lines[2].count(" ms") == 2
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    model = load(run, "cpu")
    answer = command.FORMATS[form].open(file)
    for image in noise(model.preprocessing):
        expected = model.predict([image])[0]
        assert torch.allclose(answer(as_input(image))["probabilities"][0], expected, atol=0.01)


def test_what_the_files_say_of_themselves(run):
    import onnx
    from safetensors import safe_open

    for form in command.FORMATS:
        export([str(run), "--format", form])
    about = onnx.load(run / "exports/model.onnx").metadata_props
    extra = {"metadata.json": ""}
    torch.export.load(run / "exports/model.pt2", extra_files=extra)
    with safe_open(run / "exports/model.safetensors", "pt") as file:
        weights = file.metadata()
    for held in ({entry.key: entry.value for entry in about}, json.loads(extra["metadata.json"]), weights):
        assert held["task"] == "judging"
        assert json.loads(held["class_names"]) == ["dark", "grey", "light"]
        how = json.loads(held["preprocessing"])
        assert (how["channels"], how["size"], how["keep_aspect"]) == (3, [6, 8], False) and len(how["mean"]) == 3


def test_weights_alone(run, capsys):
    from safetensors.torch import load_file

    export([str(run), "--format", "safetensors", "--out", "weights/mine.safetensors"])
    file = Path("weights/mine.safetensors")
    assert capsys.readouterr().out.startswith(f"{file}: ")
    Path("other").touch()
    assert file.stat().st_mode == Path("other").stat().st_mode  # which others may read
    net = torch.nn.Linear(3 * 6 * 8, 3)
    net.load_state_dict(load_file(file))
    assert torch.equal(net.weight, load(run, "cpu").task.net.weight)


def test_a_file_that_does_not_agree_is_removed(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "forward", lambda self, images, *_: (self.net(images.flatten(1)),))
    for form in ("onnx", "pt2"):
        with pytest.raises(UserError, match="does not agree with PyTorch and is removed: difference of a") as raised:
            export([str(run), "--format", form])
        assert raised.value.exit_code == 1
    assert not list((run / "exports").iterdir())


def test_a_file_there_stays_until_the_next_one_is_good(run, monkeypatch):
    import tiny_task

    export([str(run)])
    before = (run / "exports/model.onnx").read_bytes()
    monkeypatch.setattr(tiny_task.Answer, "tolerance", -1.0)
    with pytest.raises(UserError):
        export([str(run)])
    assert (run / "exports/model.onnx").read_bytes() == before


def test_images_that_tell_on_each_other(run, monkeypatch):
    """One by one they are right, in a batch they are not."""
    import tiny_task

    def forward(self, images, *_):
        found = self.net(images.flatten(1)).softmax(1)
        return (found.mean(0, keepdim=True).expand_as(found),)

    monkeypatch.setattr(tiny_task.Answer, "forward", forward)
    with pytest.raises(UserError, match="does not agree"):
        export([str(run)])


def test_without_the_data_noise_is_compared(run, capsys):
    export([str(changed(run, test=0, train=0)), "--out", "there.onnx"])
    output = capsys.readouterr()
    assert "0.0001 allowed, on 3 images of noise\n" in output.out and Path("there.onnx").is_file()
    why = "neither test nor val has an image"
    assert output.err == f"warning: tried on noise, since the run's data cannot be read ({why})\n"


def test_without_test_images_those_of_val(run, capsys):
    export([str(changed(run, test=0, val=5))])
    assert "on 5 images of val" in capsys.readouterr().out


def test_the_data_of_a_checkpoint_in_no_run_are_left_alone(run, monkeypatch, capsys):
    """They may be a stranger's, who names what files he likes."""
    import tiny_task

    file = shutil.copy(run / "checkpoints/best.ckpt", "stranger.ckpt")
    monkeypatch.setattr(tiny_task.Shades, "load_split", lambda *_: pytest.fail("the data are read"))
    export([file])
    output = capsys.readouterr()
    assert "on 3 images of noise" in output.out and "stranger.ckpt lies in no run's folder" in output.err
    assert Path("exports/model.onnx").is_file()


def test_a_bug_in_a_data_module_is_no_reason_for_noise(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Shades, "load_split", lambda self, split: {}[split])
    with pytest.raises(KeyError):
        export([str(run)])
    assert not (run / "exports").exists()


def test_where_nothing_is_found_nothing_is_said_to_agree(run, monkeypatch, capsys):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "counted", "moles")
    export([str(run)])
    assert "allowed, on 33 moles in 11 images of test" in capsys.readouterr().out
    monkeypatch.setattr(tiny_task.Answer, "count", lambda *_: 0)
    export([str(run)])
    output = capsys.readouterr().out
    assert "nothing could be compared: neither PyTorch nor the file finds moles in 11 images of test" in output
    assert "agrees" not in output


def test_a_file_that_cannot_be_run(run, monkeypatch):
    def opened(file):
        def run(images):
            raise RuntimeError("no such kernel")

        return run

    monkeypatch.setattr(command.Onnx, "open", staticmethod(opened))
    with pytest.raises(UserError, match=r"^onnx cannot run what it made of Linear .*no such kernel"):
        export([str(run)])
    assert not list((run / "exports").iterdir())


def test_a_bug_in_the_comparison_is_not_the_formats(run, monkeypatch):
    import tiny_task

    monkeypatch.setattr(tiny_task.Answer, "difference", lambda *_: {}["masks"])
    with pytest.raises(KeyError):
        export([str(run)])
    assert not list((run / "exports").iterdir())


@pytest.mark.parametrize(
    "args, made",
    [
        (["--format", "pt2", "run"], "run/exports/model.pt2"),
        (["--out=x.pt2", "run"], "x.pt2"),
        (["run", "--out", "weights/x.safetensors"], "weights/x.safetensors"),
        (["--trust", "tiny_task", "run", "--out", "X.ONNX"], "X.ONNX"),
    ],
)
def test_the_run_anywhere_and_the_format_by_the_ending(run, args, made):
    from safetensors import safe_open

    export(args)
    if made.endswith("pt2"):
        torch.export.load(made)
    elif made.endswith("safetensors"):
        with safe_open(made, "pt") as file:
            assert list(file.keys())
    else:
        import onnx

        onnx.checker.check_model(made)


@pytest.mark.parametrize(
    "args, message",
    [
        (["run", "--out", "run"], "run cannot be written: it is a folder; give a file's name"),
        (["run", "--out", "x.pt2", "--format", "onnx"], "x.pt2 is no name for --format onnx: let it end with .onnx"),
        (["run", "--out", "x.ckpt"], "x.ckpt must end with .onnx or .pt2 or .safetensors"),
        (["run", "--out", "x", "--format", "pt2"], "--out x must end with .pt2$"),
        (["run", "--out", "run/config.yaml/m.onnx"], "run/config.yaml/m.onnx cannot be written: .*config.yaml is no"),
    ],
)
def test_the_place_is_looked_at_before_all_work(run, args, message, monkeypatch):
    monkeypatch.setattr(command, "load", lambda *_: pytest.fail("it is too late"))
    with pytest.raises(UserError, match=message):
        export(args)


def test_packages_that_are_missing(run, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx needs onnx and onnxruntime: pip install -c constraints.txt .*export"):
        export([str(run)])
    with pytest.raises(UserError, match="safetensors needs safetensors: "):
        export([str(run), "--format", "safetensors"])


def test_a_strangers_run(run, monkeypatch, capsys):
    from kit.checkpoints import trust

    monkeypatch.setattr(trust, "PACKAGES", ("kit", "torch"))
    with pytest.raises(UserError, match="'tiny_task' is not trusted"):
        export([str(run)])
    export([str(run), "--trust", "tiny_task"])
    assert "on 11 images of test" in capsys.readouterr().out


@pytest.mark.parametrize("form, other", [("onnx", "safetensors"), ("pt2", "onnx")])
def test_what_a_format_cannot_take(run, form, other, monkeypatch):
    import tiny_task

    def forward(self, images, *_):
        raise RuntimeError("no such operation\nand a page of more")

    monkeypatch.setattr(tiny_task.Answer, "forward", forward)
    with pytest.raises(UserError, match=rf"^{form} cannot take Linear .*no such operation.*--format {other}") as raised:
        export([str(run), "--format", form])
    assert "\n" not in str(raised.value) and not list((run / "exports").iterdir())


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "which run"),
        (["--format", "onnx"], "which run"),
        (["--out", "x.onnx"], "which run"),
        (["gone"], "no run folder or checkpoint"),
        (["run", "--format", "onx"], "format.*onx.*onnx"),
        (["run", "--frmat", "onnx"], "no key 'frmat'; did you mean 'format'"),
        (["run", "--out", "run/config.yaml/model.onnx"], "cannot be written"),
    ],
)
def test_mistakes(run, args, message):
    with pytest.raises(UserError, match=message):
        export(args)


def test_a_task_without_it(run, monkeypatch):
    import tiny_task

    monkeypatch.delattr(tiny_task.Carried, "exported")
    with pytest.raises(UserError, match=r"Carried has no `exported\(\)`"):
        export([str(run)])
