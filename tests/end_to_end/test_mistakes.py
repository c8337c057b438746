"""A mistake of the user ends in one line that says what is wrong and what to do."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import yaml
from fixtures import tiny_of

from kit.cli import verbs
from kit.cli.command_line import CLI
from kit.ground.errors import UserError
from kit.ground.yaml_files import leaves

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RUN = str(sorted(file for file in CONFIGS.glob("*.yaml") if "_" not in file.stem)[0])

MISTAKES = [  # the command line, and words of the message
    (["--model.net.width", "[8]"], ["model.net.width", "widths"]),
    (["--trainer.max_epoch", "3"], ["trainer.max_epoch'", "trainer.max_epochs"]),  # an abbreviation is a wrong key
    (["--modle.compile", "true"], ["modle.compile"]),
    (["--early_stopping.patienc", "3"], ["early_stopping.patience"]),
    (["--trainer.max_epochs", "abc"], ["trainer.max_epochs", "abc", "whole number"]),
    (["--trainer.precision", "bf17"], ["trainer.precision", "bf17", "bf16-mixed"]),
    (["--data.cache", "rom"], ["data.cache", "rom", "ram"]),
    (["--model.optimizer", "torch.optim.AdamWW"], ["torch.optim.AdamWW", "AdamW"]),
    (["--model.optimizer.l", "1"], ["model.optimizer.l'", "lr"]),
    (["--data", "project.nothing.Digits"], ["project.nothing"]),
    (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    (["--resume", "runs/nowhere"], ["runs/nowhere"]),
    (["--trainer.accelerator", "gpuu"], ["gpuu", "cpu"]),
    (["--trainer.devices", "two"], ["trainer.devices", "two", "auto"]),
    (["--resume", "runs/nowhere", "--name", "mine"], ["leave out --name"]),
]


def tiny_data() -> list[str]:
    """Make tiny data for the run, and return the options that name them."""
    Path("data").mkdir()
    return tiny_of(Path(RUN).stem).arguments(yaml.safe_load(Path(RUN).read_text()), Path("data"))


@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_mistake_is_explained_in_one_line(args, words):
    data = tiny_data()
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
    monkeypatch.setattr("kit.zoo.loading._is_reachable", lambda url: False)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    Path("data").mkdir()
    config = FINETUNED[0]
    data = tiny_of(config.stem.split("_")[0]).arguments(yaml.safe_load(config.read_text()), Path("data"))
    # The net of this config may be in an installed package.
    other = ["--model.net.name", "resnet18"] if "TimmNet" in config.read_text() else []
    with pytest.raises(UserError, match=r"no route to host|cannot be reached") as caught:
        verbs.fit(["--config", str(config), *data, *other, "--model.net.pretrained", "auto"])
    message = str(caught.value)
    assert "--model.net.pretrained false" in message and "\n" not in message


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


INTERNALS = ("Namespace", "Union", "NoneType", "Literal", "<class", "Subtypes", "Parser key")
RUNS = sorted(CONFIGS.glob("*.yaml"))


@pytest.fixture
def refused(monkeypatch) -> Callable[..., str]:
    """Return a function that returns the message for a command line that the parser must refuse."""

    def accept(cli: CLI) -> None:
        raise AssertionError("the parser accepted the command line")

    def run(*args: str) -> str:
        with pytest.raises(UserError) as caught:
            verbs.fit(list(args))
        assert caught.value.exit_code == 2
        message = str(caught.value)
        assert "\n" not in message and not any(word in message for word in INTERNALS), message
        return message

    monkeypatch.setattr(CLI, "instantiate_classes", accept)
    return run


SLOW = [pytest.param(file, marks=[pytest.mark.slow] * (str(file) != RUN), id=file.stem) for file in RUNS]


@pytest.mark.parametrize("file", SLOW)
def test_value_of_a_wrong_type_names_its_key(file, refused):
    values = {key: value for key, value, _ in leaves(file.read_text())}
    for key, value in values.items():
        if not key.endswith(("degrees", "depth", "size", "monitor", "val_check_interval")):  # these accept many types
            is_path = isinstance(value, str) and value.count(".") > 1
            wrong = (
                "3" if isinstance(value, list) else "{wrong: 1}" if isinstance(value, str) and not is_path else "wrong"
            )
            assert key in refused("--config", str(file), f"--{key}", wrong)


MEANT = [  # the command line after the config, and the command in the answer
    (["--lr", "0.1"], "--model.optimizer.lr 0.1"),
    (["--max_epochs", "1"], "--trainer.max_epochs 1"),
    (["--epochs", "3"], "--trainer.max_epochs 3"),
    (["--batch_size", "8"], "--data.batch_size 8"),
    (["--trainer.learning_rate", "0.1"], "--model.optimizer.lr 0.1"),
    (["--data-batch-size", "8"], "--data.batch_size 8"),
    (["-data.batch_size", "8"], "--data.batch_size 8"),
    (["max_epochs=3"], "--trainer.max_epochs 3"),
    (["trainer.max_epochs", "3"], "--trainer.max_epochs 3"),
    (["configs/mine.yaml"], "--config configs/mine.yaml"),
    (["runs/mine/version_0"], "--resume runs/mine/version_0"),
    (["--model.optimizer.betas", "0.9"], "--model.optimizer.betas '[0.9, 0.9]'"),
    (["--model.schedule", "MultiStepLR", "--model.schedule.milestones", "5"], "--model.schedule.milestones '[5]'"),
    (["--data.batch_size"], "--data.batch_size VALUE"),
    (["--trainer", "3"], "trainer.accelerator"),
    (["--model.optimizer", "sgd"], "'SGD'"),
    (["--trainer.callbacks+=EMAA"], "'EMA'"),
    (["--model.optimizer.betas", "[0.9]"], "a list of 2 values, each a number"),
    (["--trainer.max_epochs", "1.5"], "a whole number or null"),
    (["--model.schedule", "MultiStepLR"], "--model.schedule.milestones"),
    (["--seed", "3"], "seed_everything"),
    (["--data.seed", "3"], "seed_everything"),
    (["--num_classes", "5"], "data.num_classes"),
    (["--model.num_classes=5"], "data.num_classes"),
]


@pytest.mark.parametrize(("args", "meant"), MEANT, ids=[" ".join(args) for args, _ in MEANT])
def test_answer_to_a_mistake_has_the_command_that_was_meant(args, meant, refused):
    assert meant in refused("--config", RUN, *args)


def test_overlay_for_gpus_is_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no GPU .*--trainer.accelerator auto"):
        verbs.fit(["--config", RUN, "--config", str(CONFIGS / "trainer" / "gpu.yaml"), *tiny_data()])


@pytest.mark.parametrize("overriding", [["--trainer.max_epochs", "77"], ["--config", "trainer/long.yaml"]])
@pytest.mark.parametrize("swapped", [False, True])
def test_order_of_a_config_and_what_overrides_it_does_not_matter(swapped, overriding, capsys):
    Path("trainer").mkdir()
    Path("trainer/long.yaml").write_text("trainer: {max_epochs: 77}\n")
    config = ["--config", RUN]
    with pytest.raises(SystemExit):
        verbs.fit([*(config + overriding if swapped else overriding + config), "--print_config"])
    assert "max_epochs: 77" in capsys.readouterr().out


def test_mistake_in_a_config_has_its_line(refused):
    text = (
        "name: mine\ntrainer:\n  max_epochs: 3\n  callbacks:\n    - class_path: EMA\n      init_args: {decay: lots}\n"
    )
    Path("mine.yaml").write_text(text)
    message = refused("--config", RUN, "--config", "mine.yaml")
    assert "trainer.callbacks.decay" in message and "mine.yaml:6" in message


def test_argument_beside_init_args_is_explained(refused):
    classes = {
        key: {"class_path": yaml.safe_load(Path(RUN).read_text())[key]["class_path"]} for key in ("model", "data")
    }
    classes["data"]["batch_size"] = 8
    Path("mine.yaml").write_text(yaml.safe_dump(classes))
    assert "data is not accepted; arguments of a class belong below its init_args" in refused("--config", "mine.yaml")


@pytest.mark.parametrize("text", ["[a, b]", "trainer: [1]", "trainer: {max_epochs: {a: 1}}", "text", ""])
def test_config_must_consist_of_keys_with_values(text, refused):
    Path("mine.yaml").write_text(text)
    assert "mine.yaml:1" in refused("--config", RUN, "--config", "mine.yaml")


def test_key_that_is_there_twice_is_refused(refused):
    Path("mine.yaml").write_text("trainer:\n  max_epochs: 3\n  max_epochs: 4\n")
    assert "'max_epochs'" in refused("--config", "mine.yaml") and "mine.yaml:3" in refused("--config", "mine.yaml")


def test_configs_that_have_a_key_are_named(refused, monkeypatch):
    with_root = [f for f in RUNS if "data.root" in {key for key, _, _ in leaves(f.read_text())} and f.stem != "style"]
    if str(RUN) in map(str, with_root) or not with_root:
        pytest.skip("the default config reads a folder")
    monkeypatch.chdir(CONFIGS.parent)
    message = refused("--data.root", "photos")
    assert "--data.root photos" in message and all(f"configs/{file.name}" in message for file in with_root)


def test_net_of_a_library_is_given_by_its_class(refused, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    finetune = [f for f in RUNS if "model.net.name" in {key for key, _, _ in leaves(f.read_text())}]
    for file in finetune[:1]:
        assert "--model.net.name resnet18" in refused("--config", str(file), "--model.net", "resnet18")


def test_suggestion_for_a_nested_key_has_its_own_value(refused):
    message = refused("--config", RUN, "--trainer", '{"max_epoch": 3}')
    assert message.endswith("did you mean --trainer.max_epochs 3?")


@pytest.mark.parametrize("text", ["x" * 1_000_000, "x." * 50_000, "'" * 1_000_000])
def test_long_value_is_cut(text, refused):
    for option in ("--model", "--trainer.max_epochs"):
        message = refused("--config", RUN, option, text)
        assert option[2:] in message and len(message) < 1_000


def test_name_of_several_classes_is_explained(refused):
    message = refused("--config", RUN, "--trainer.callbacks", "EarlyStopping")
    assert "lightning.pytorch.callbacks.EarlyStopping" in message and "kit.safeguards.EarlyStopping" in message


def test_net_without_annotations_gets_the_channels_of_the_data(monkeypatch):
    lines = ["from torch import nn", "class Net(nn.Module):", "    def __init__(self, in_channels, num_classes=None):"]
    lines += ["        raise RuntimeError(f'{in_channels} channels')"]
    Path("plain_net.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(".")
    with pytest.raises(RuntimeError, match=r"[13] channels"):
        verbs.fit(["--config", RUN, *tiny_data(), "--model.net", "plain_net.Net"])
