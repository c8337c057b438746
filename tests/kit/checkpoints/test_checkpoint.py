"""Find and read checkpoints, and refuse what is damaged, unsafe or too large."""

import zipfile
from pathlib import Path
from typing import Any

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
    assert checkpoint.find("run", "last") == checkpoint.find(str(last)) == last


def test_missing_checkpoint_is_refused():
    Path("run").mkdir()
    with pytest.raises(UserError, match=r"run/checkpoints/best\.ckpt"):
        checkpoint.find("run")
    Path("run/checkpoints").mkdir()
    with pytest.raises(UserError, match=r"rum; did you mean 'run'"):
        checkpoint.find("rum")
    with pytest.raises(UserError, match="no run folder"):
        checkpoint.find("deep/down/run")


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


def repeated(times: int) -> list[Any]:
    values: list[Any] = [1]
    for _ in range(times):
        values = [values, values]
    return values


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(1).expand(1000, 1000), "an expanded, sparse, meta or nested tensor"),
        (torch.empty(10, device="meta"), "an expanded, sparse, meta or nested tensor"),
        (torch.zeros(3).to_sparse(), "an expanded, sparse, meta or nested tensor"),
        (repeated(90), "10,000,000 values"),
        (repeated(200), "nested too deeply"),
    ],
    ids=["expanded", "meta", "sparse", "repeated", "deep"],
)
def test_content_larger_than_the_file_is_refused(value: Any, message: str) -> None:
    torch.save({"state_dict": {"a": value}}, "some.ckpt")
    with pytest.raises(UserError, match=f"some.ckpt cannot be read as a checkpoint .*{message}"):
        checkpoint.read(Path("some.ckpt"))


def test_recursive_list_is_refused() -> None:
    values: list[Any] = []
    values.append(values)
    torch.save({"a": values}, "some.ckpt")
    with pytest.raises(UserError, match="nested"):
        checkpoint.read(Path("some.ckpt"))


def test_tensor_made_by_a_pickled_call_is_refused() -> None:
    torch.save({"a": 1}, "some.ckpt")
    with zipfile.ZipFile("some.ckpt") as inside, zipfile.ZipFile("large.ckpt", "w") as outside:
        for part in inside.namelist():
            pickled = b"\x80\x02}X\x01\0\0\0actorch\nFloatTensor\nJ" + (10**7).to_bytes(4, "little") + b"\x85Rs."
            outside.writestr(part, pickled if part.endswith("data.pkl") else inside.read(part))
    with pytest.raises(UserError, match="larger than the file"):
        checkpoint.read(Path("large.ckpt"))


def test_small_repeated_values_are_read() -> None:
    shared = torch.arange(4.0)
    content = {"a": shared.expand(3, 4), "b": [shared, shared], "c": (1, {"d": [True, None]})}
    torch.save(content, "some.ckpt")
    assert checkpoint.read(Path("some.ckpt"))["a"].equal(content["a"])
