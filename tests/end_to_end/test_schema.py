"""The JSON schema of configs: shipped ones fit, mistakes do not, and classes of other packages may stand anywhere."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RUN = next(file for file in sorted(CONFIGS.glob("*.yaml")) if "_" not in file.stem)

sys.path.append(str(CONFIGS))
import schema  # noqa: E402


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    content = schema.schema()
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


@pytest.fixture
def run() -> dict:
    return copy.deepcopy(yaml.safe_load(RUN.read_text()))


@pytest.mark.parametrize("config", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_config_is_valid_and_names_the_schema(config, validator):
    validator.validate(yaml.safe_load(config.read_text()))
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", config.read_text())
    assert (config.parent / named[1]).resolve() == schema.FILE


def test_mistakes_are_invalid(validator, run):
    assert validator.is_valid(run)
    net = run["model"]["init_args"]["net"]
    for place, key, value in [
        (run, "modle", {}),
        (run["trainer"], "max_epoch", 3),
        (run["trainer"], "max_epochs", "three"),
        (run["trainer"], "precision", "bf17"),
        (run["model"], "class_pth", "x.Y"),
        (run["model"]["init_args"], "nett", net),
        (net["init_args"], "widthz", [8]),
        (net["init_args"], "widths", 8),
        (run["data"]["init_args"], "cache", "rom"),
    ]:
        before = dict(place)
        place[key] = value
        assert not validator.is_valid(run), key
        place.clear()
        place.update(before)
    assert validator.is_valid(run)


def test_classes_of_other_packages_are_valid(validator, run):
    run["model"]["init_args"]["net"] = {"class_path": "my_package.MyNet", "init_args": {"anything": [1, "x"]}}
    run["trainer"]["callbacks"] = ["my_package.Shout", {"class_path": "my_package.Other"}]
    assert validator.is_valid(run)
    for key in ("model", "data"):
        run[key] = {"class_path": "my_package.Mine", "init_args": {"own": None}}
    assert validator.is_valid(run)


def test_command_writes_the_schema(tmp_path):
    words = [sys.executable, schema.__file__, str(tmp_path / "schema.json")]
    assert subprocess.run(words, capture_output=True, text=True).stdout == f"{tmp_path / 'schema.json'}\n"
    content = json.loads((tmp_path / "schema.json").read_text())
    assert {"trainer", "model", "data", "checkpoint"} <= set(content["properties"])
