"""A mistake of the user ends in one line that says what is wrong and what to do."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import yaml
from fixtures import tiny_of

from kit.cli import verbs
from kit.config.mistakes import explain
from kit.ground.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RUN = str(sorted(file for file in CONFIGS.glob("*.yaml") if "_" not in file.stem)[0])

MISTAKES = [  # the command line, and words of the message
    (["--model.net.width", "[8]"], ["model.net.width", "widths"]),
    (["--trainer.max_epoch", "3"], ["trainer.max_epoch'", "trainer.max_epochs"]),  # an abbreviation is a wrong key
    (["--modle.compile", "true"], ["modle.compile"]),
    (["--early_stopping.patienc", "3"], ["early_stopping.patience"]),
    (["--trainer.max_epochs", "abc"], ["trainer.max_epochs", "abc", "int"]),
    (["--trainer.precision", "bf17"], ["trainer.precision", "bf17", "bf16-mixed"]),
    (["--data.cache", "rom"], ["data.cache", "rom", "ram"]),
    (["--model.optimizer", "torch.optim.AdamWW"], ["torch.optim.AdamWW", "AdamW"]),
    (["--model.optimizer.l", "1"], ["model.optimizer.l'", "lr"]),
    (["--data", "project.nothing.Digits"], ["project.nothing"]),
    (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    (["--resume", "runs/nowhere"], ["runs/nowhere"]),
    (["--trainer.accelerator", "gpuu"], ["gpuu", "cpu"]),
]


@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_mistake_is_explained_in_one_line(args, words):
    Path("data").mkdir()
    data = tiny_of(Path(RUN).stem).arguments(yaml.safe_load(Path(RUN).read_text()), Path("data"))
    with pytest.raises(UserError) as caught:
        verbs.fit(args if "--config" in args else ["--config", RUN, *data, *args])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


FINETUNED = sorted(CONFIGS.glob("*_finetune.yaml"))


@pytest.mark.skipif(not FINETUNED, reason="no config starts from pretrained weights")
def test_run_without_a_network_names_what_works(monkeypatch):
    def fail(*_, **__):
        raise URLError(OSError("no route to host"))

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    Path("data").mkdir()
    config = FINETUNED[0]
    data = tiny_of(config.stem.split("_")[0]).arguments(yaml.safe_load(config.read_text()), Path("data"))
    with pytest.raises(UserError, match=r"no route to host") as caught:
        verbs.fit(["--config", str(config), *data, "--model.net.pretrained", "true"])
    message = str(caught.value)
    assert "--model.net.pretrained false" in message and "\n" not in message
    (other,) = [file for file in CONFIGS.glob("*.yaml") if str(file) in message]
    assert other.stem.split("_")[0] == config.stem.split("_")[0] and "pretrained" not in other.read_text()


@pytest.mark.parametrize(
    ("key", "hint"), [("max_epochs", "trainer.max_epoch'.*trainer.max_epochs"), ("trainer", r"traine\b.*trainer")]
)
def test_wrong_key_in_a_config_is_named_with_the_nearest_key(key, hint):
    Path("mine.yaml").write_text(Path(RUN).read_text().replace(f"{key}:", f"{key[:-1]}:"))
    with pytest.raises(UserError, match=hint):
        verbs.fit(["--config", "mine.yaml"])


def test_missing_config_lists_existing_ones():
    with pytest.raises(UserError, match=Path(RUN).name):
        verbs.fit(["--config", RUN.replace(".yaml", "s.yaml")])
    with pytest.raises(UserError, match="no config"):
        verbs.fit([])  # a folder without configs


def test_mistake_prints_one_line_and_exits_with_2(command):
    ended = command("fit", "--config", RUN, "--trainer.max_epoch", "3")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


def test_missing_or_broken_run_is_refused():
    for args, text in (([], "which run"), (["runs/nowhere"], "no run folder")):
        with pytest.raises(UserError, match=text):
            verbs.test(args)
    Path("broken.ckpt").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        verbs.test(["broken.ckpt"])


@pytest.mark.parametrize("text", ["x" * 1_000_000, "x." * 500_000, "'" * 1_000_000])
def test_long_value_is_cut(text):
    message = f"Parser key \"data\": Expected a <class 'int'>. Got value: {text}"
    explained = explain(message, [])
    assert "data" in explained
    assert len(explained) < 1_000
