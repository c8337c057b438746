"""Find and read checkpoints, and refuse what is damaged, unsafe or too large."""

from pathlib import Path

import pytest
import torch

from kit.checkpoints import checkpoint
from kit.ground.errors import UserError


def saved(file: str, **content) -> Path:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return Path(file)


def test_find_returns_the_best_checkpoint_or_the_file():
    best, last = saved("run/checkpoints/best.ckpt"), saved("run/checkpoints/last.ckpt")
    assert checkpoint.find("run") == checkpoint.find("run/") == best
    assert checkpoint.find(str(last)) == last


def test_run_folder_of_a_checkpoint(monkeypatch):
    run = saved("run/checkpoints/best.ckpt").parents[1].absolute()
    assert checkpoint.run_folder_of(run / "checkpoints" / "best.ckpt") == run
    monkeypatch.chdir(run / "checkpoints")
    assert checkpoint.run_folder_of(Path("best.ckpt")) == run


def test_missing_checkpoint_is_refused():
    Path("run").mkdir()
    with pytest.raises(UserError, match=r"run/checkpoints/best\.ckpt"):
        checkpoint.find("run")
    Path("run/checkpoints").mkdir()
    with pytest.raises(UserError, match=r"rum; did you mean 'run'"):
        checkpoint.find("rum")
    for name in ("deep/down/run", "long" * 100):
        with pytest.raises(UserError, match="no run folder"):
            checkpoint.find(name)


class Evil:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def test_no_code_is_run():
    file = saved("evil.ckpt", hyper_parameters={"_class_path": "a.B"}, extra=Evil())
    with pytest.raises(UserError, match=r"evil\.ckpt cannot be read"):
        checkpoint.read(file)
    assert not Path("touched").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\3\4 cut off"])
def test_other_files_are_refused(content):
    Path("some.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"some\.ckpt cannot be read as a checkpoint") as caught:
        checkpoint.read(Path("some.ckpt"))
    assert "\n" not in str(caught.value)


def test_truncated_checkpoint_is_refused():
    file = saved("cut.ckpt", hyper_parameters={"_class_path": "a.B"}, weights=torch.zeros(1000))
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read"):
        checkpoint.read(file)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"hyper_parameters": {"lr": 1}}, {"hyper_parameters": None}])
def test_checkpoint_without_class_path_is_refused(content):
    with pytest.raises(UserError, match="does not name its LightningModule"):
        checkpoint.load(saved("other.ckpt", **content))


def test_config_of_a_checkpoint():
    content = {
        "hyper_parameters": {"_class_path": "a.Task", "_instantiator": "x", "width": 3},
        "datamodule_hyper_parameters": {"_class_path": "b.Data", "root": "here"},
    }
    assert checkpoint.config_of(content) == {
        "model": {"class_path": "a.Task", "init_args": {"width": 3}},
        "data": {"class_path": "b.Data", "init_args": {"root": "here"}},
    }
    assert content["hyper_parameters"]["width"] == 3


def test_weights_from_elsewhere_are_switched_off():
    net = {"class_path": "a.Net", "init_args": {"name": "x", "pretrained": True, "weights": "gone.pt"}}
    content = {"hyper_parameters": {"_class_path": "a.Task", "net": net}}
    built = checkpoint.config_of(content)["model"]["init_args"]["net"]
    assert built == {"class_path": "a.Net", "init_args": {"name": "x", "pretrained": False, "weights": None}}
    assert net["init_args"]["pretrained"] is True
