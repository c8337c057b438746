"""The verb `export` uploads a run to the hub in one commit, or not at all."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import serving
from safetensors.torch import load
from tiny_run import made_once

from kit.exporting import command as verb
from kit.exporting import hub
from kit.exporting.agreement import noise
from kit.prediction import load as load_model

CONFIG = """
trainer: {max_epochs: 1}
model: {class_path: tiny_task.Carried}
data: {class_path: tiny_task.Shades, init_args: {root: FOLDER/shades}}
name: tiny
"""
NAMES = {"README.md", "config.yaml", "results.json", "model.safetensors", "model.onnx"}


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def run(once) -> Path:
    made = made_once(once, "tiny_published", CONFIG.replace("FOLDER", str(Path("secret").absolute())))
    return Path(shutil.copytree(made, "run"))


@pytest.fixture
def no_export(monkeypatch) -> None:
    monkeypatch.setattr(verb, "load", lambda *_: pytest.fail("it is too late"))


def test_run_is_uploaded_in_one_commit(command, server, run):
    ended = command("export", "run", "--to_hub", "ada/shades")
    assert ended.returncode == 0, ended.stderr
    assert f"uploaded to {server.url}/ada/shades" in ended.stdout
    ((name, files),) = server.commits
    assert name == "ada/shades" and set(files) == NAMES
    for same in ("README.md", "results.json"):
        assert files[same] == (run / same).read_bytes()
    assert files["model.onnx"] == (run / "exports" / "model.onnx").read_bytes()
    assert server.visible == {"ada/shades": "private"}


def test_weights_give_the_same_outputs(command, server, run):
    command("export", "run", "--to_hub", "ada/shades")
    tensors = load(server.commits[0][1]["model.safetensors"])
    model = load_model(run, "cpu")
    images = noise(model.preprocessing)
    expected = model.predict(images)
    for parameter in model.task.parameters():
        parameter.zero_()
    model.task.load_state_dict(tensors)
    for output, other in zip(model.predict(images), expected, strict=True):
        assert torch.equal(output, other)


def test_nothing_that_is_uploaded_tells_where_files_are(command, server, run):
    command("export", "run", "--to_hub", "ada/shades")
    before = yaml.safe_load((run / "config.yaml").read_text())
    files = server.commits[0][1]
    after = yaml.safe_load(files["config.yaml"])
    assert Path(before["data"]["init_args"]["root"]).is_absolute()
    assert after["data"]["init_args"]["root"] == "shades"
    after["data"]["init_args"]["root"] = before["data"]["init_args"]["root"]
    assert after == before
    for folder in (str(Path.cwd().parent), str(Path.home()) + "/", sys.prefix, "/secret"):
        assert not [name for name, content in files.items() if folder.encode() in content], folder


def test_paths_keep_their_last_part():
    values = {
        "root": "/home/ada/my cats/",
        "home": "~/cats",
        "up": "../cats",
        "windows": "C:\\Users\\ada\\cats",
        "url": "https://ada:key@example.org/track",
        "files": ["/a/b.pt", 3, None, {"inner": "data/../../b"}],
        "name": "hf-hub:timm/vit_tiny",
        "folder": "data/cats",
        "text": "10 +- 3",
        "regex": r"\w+_(\d+)",
        "share": r"\\server\cats",
        "rooted": r"\Users\ada\cats",
    }
    assert hub._remove_folders(values) == {
        "root": "my cats",
        "home": "cats",
        "up": "cats",
        "windows": "cats",
        "url": "track",
        "files": ["b.pt", 3, None, {"inner": "b"}],
        "name": "hf-hub:timm/vit_tiny",
        "folder": "data/cats",
        "text": "10 +- 3",
        "regex": r"\w+_(\d+)",
        "share": "cats",
        "rooted": "cats",
    }


def test_repository_keeps_its_visibility(command, server, run):
    server.visible["ada/shades"] = "public"
    assert command("export", "run", "--to_hub", "ada/shades").returncode == 0
    assert server.visible == {"ada/shades": "public"} and len(server.commits) == 1


def test_tensors_that_share_memory_are_uploaded(server):
    weight = torch.arange(6.0).view(2, 3)
    Path("model.onnx").write_bytes(b"graph")
    tensors = {"a": weight, "b": weight.T, "images": weight.view(1, 2, 3, 1).to(memory_format=torch.channels_last)}
    hub.upload(hub.connect("ada/x"), "ada/x", {"README.md": b"page"}, {**tensors, "extra": "text"}, Path("model.onnx"))
    files = server.commits[0][1]
    uploaded = load(files["model.safetensors"])
    assert uploaded.keys() == tensors.keys() and all(torch.equal(uploaded[key], tensors[key]) for key in tensors)
    assert files["model.onnx"] == b"graph" and files["README.md"] == b"page"


@pytest.mark.parametrize("path", ["/storage/", "/api/models/ada/shades/commit"])
def test_failed_upload_leaves_no_commit(command, server, run, path):
    server.refusals[path] = 403, "Storage limit reached"
    ended = command("export", "run", "--to_hub", "ada/shades")
    assert ended.returncode == 2 and not server.commits
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Storage limit reached (403); take a token" in lines[0]
    assert "Traceback" not in ended.stderr and (run / "exports" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [(401, 2, "hf auth login"), (403, 2, "another owner"), (404, 2, "check the owner"), (500, 1, "")],
)
def test_refusal_is_one_line(command, server, run, status, code, remedy):
    server.refusals["/api/repos/create"] = status, "not today"
    ended = command("export", "run", "--to_hub", "ada/shades")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == code and "ada/shades is not uploaded" in line and "not today" in line and remedy in line
    assert not server.commits


@pytest.mark.parametrize("name", ["shades", "a/b/c", "ada/", "ada/sha des", "ada/..", ".ada/shades"])
def test_malformed_name_is_refused_first(command, server, run, name, no_export):
    ended = command("export", "run", "--to_hub", name)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1 and name in ended.stderr


def test_wrong_token_is_refused_first(command, server, run, no_export, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    ended = command("export", "run", "--to_hub", "ada/shades")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and "token" in line and "hf auth login" in line and "hf_wrong" not in line


def test_missing_token_is_reported_first(command, server, run, no_export, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "no such file")
    ended = command("export", "run", "--to_hub", "ada/shades")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and "needs a token" in line and "HF_TOKEN" in line


def test_hub_that_cannot_be_reached_is_reported_first(command, server, run, no_export, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    ended = command("export", "run", "--to_hub", "ada/shades")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1 and "http://127.0.0.1:9" in line and "refused" in line


def test_missing_packages_are_reported_first(command, run, no_export, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    ended = command("export", "run", "--to_hub", "ada/shades")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and "huggingface_hub" in line and "pip install" in line


def test_run_that_has_not_ended_is_refused_first(command, server, run, no_export):
    (run / "results.json").unlink()
    ended = command("export", "run", "--to_hub", "ada/shades")
    assert ended.returncode == 2 and "run has no file results.json" in ended.stderr
    ended = command("export", "run/checkpoints/best.ckpt", "--to_hub", "ada/shades")
    assert ended.returncode == 2 and "run has no file results.json" in ended.stderr
    assert not server.visible


def test_other_checkpoint_than_the_best_is_refused_first(command, server, run, no_export):
    shutil.copy(run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt")
    ended = command("export", "run/checkpoints/last.ckpt", "--to_hub", "ada/shades")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and "best checkpoint" in line and "last.ckpt" in line and not server.visible


@pytest.mark.parametrize("name", ["README.md", "config.yaml", "results.json"])
def test_link_to_a_private_file_is_not_published(command, server, run, no_export, name):
    Path("private.txt").write_text(json.dumps({"key": "secret"}))
    (run / name).unlink()
    (run / name).symlink_to(Path("private.txt").absolute())
    ended = command("export", "run", "--to_hub", "ada/shades")
    assert ended.returncode == 2 and name in ended.stderr and not server.visible
