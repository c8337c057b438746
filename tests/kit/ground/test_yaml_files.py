"""YAML is read within limits, and mistakes in it end in one line."""

import random
from pathlib import Path

import pytest
import yaml

from kit.cli import verbs
from kit.ground import yaml_files
from kit.ground.errors import UserError

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12))

MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 8)}]}}\n" for i in range(1, 12)
)


def test_scalars_follow_the_core_schema() -> None:
    read = yaml_files.parse_yaml("[yes, no, on, off, y, true, False, null, ~, 007, 12:30, 2024-01-31, 0x1F]")
    text = ["yes", "no", "on", "off", "y"]
    assert read == [*text, True, False, None, None, "007", "12:30", "2024-01-31", "0x1F"]
    numbers = yaml_files.parse_yaml("[1, -2, +3, 1_000, 1e-3, 1.5, .5, 2., 1.e3, -.inf]")
    assert numbers == [1, -2, 3, 1000, 0.001, 1.5, 0.5, 2.0, 1000.0, -float("inf")]
    assert [type(number) for number in numbers] == [int] * 4 + [float] * 6
    assert yaml_files.parse_yaml("[2024_, 1__2, -1_, 0_1]") == ["2024_", "1__2", "-1_", "0_1"]


def test_texts_and_numbers_are_read_as_they_were_dumped():
    texts = ["1e-3", "1E5", "1.e3", ".5e1", "1_000", "12:30", "yes", "null", "~", "", "-.inf", "2024-01-31", "<<"]
    values = [*texts, 1e-3, 1e-5, 1e20, -3, True, None, float("inf")]
    assert yaml_files.parse_yaml(yaml.safe_dump(values)) == values


def test_every_plain_scalar_can_be_read() -> None:
    generator = random.Random(0)
    for _ in range(3000):
        text = "".join(generator.choices("0123456789__..+-eExinf~", k=generator.randint(1, 6)))
        assert isinstance(yaml_files.parse_yaml(f"[!!str '', {text}]")[1], str | int | float | None), text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (LAUGHS, "values"),
        ("&a [*a]", "nested"),
        ("[" * 1000 + "]" * 1000, "nested"),
        ("- " * 60 + "x", "nested"),
        ("x: " + "9" * 5000, "digits"),
        ("x: !!int '" + "1:" * 5000 + "1'", "invalid literal"),
        ("x: !!int cat", "cat"),
        ("x: 1\ny: {z: 1, z: 2}\n", "'z' is there more than once"),
        ("x: !!timestamp cat", "groupdict"),
        ("!!python/object/apply:os.system [touch touched]", "tag"),
        ("x: \ud800", "surrogates"),
        ("a: *b", "undefined alias"),
        (MERGES, "values"),
        ("a: [1", "expected"),
    ],
)
def test_broken_yaml_and_yaml_beyond_a_limit_is_refused(text: str, word: str) -> None:
    with pytest.raises(yaml.YAMLError, match=word):
        yaml_files.parse_yaml(text)
    assert not Path("touched").exists()


def test_anchors_and_merges() -> None:
    assert yaml_files.parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]")["b"] == {"x": 1, "y": 2}


def test_broken_config_is_reported_with_its_line() -> None:
    Path("mine.yaml").write_text("names:\n- a\n- [b\n")
    with pytest.raises(UserError, match=r"mine\.yaml:4: broken YAML"):
        yaml_files.read_yaml(Path("mine.yaml"))
    Path("mine.yaml").write_bytes("a: 1\nb: café\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"mine\.yaml:2: not UTF-8"):
        yaml_files.read_yaml(Path("mine.yaml"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x: [" + "1, " * 2**20 + "]", "bytes"),
        (LAUGHS, "values"),
        ("x: " + "[" * 5000 + "]" * 5000, "nest"),
        ("seed_everything: " + "9" * 5000, "digits"),
    ],
)
def test_config_beyond_a_limit_is_reported_in_one_line(text: str, word: str) -> None:
    Path("mine.yaml").write_text(text)
    with pytest.raises(UserError, match=f"mine.yaml:.*{word}"):
        verbs.fit(["--config", "mine.yaml"])
    with pytest.raises(UserError, match="/dev/zero: a device"):
        verbs.check(["--config", "/dev/zero"])


def test_leaves_are_the_keys_of_the_command_line_with_their_lines() -> None:
    text = (
        "model:\n  class_path: a.Net\n  init_args:\n    widths: [1, 2]\n    augment:\n      - class_path: b.Flip\n"
        "      - class_path: b.Turn\n        init_args: {degrees: 10}\ntrainer.max_epochs: 3\n"
    )
    assert list(yaml_files.leaves(text)) == [
        ("model", "a.Net", 2),
        ("model.widths", [1, 2], 4),
        ("model.augment", ["b.Flip"], 6),
        ("model.augment", ["b.Turn"], 7),
        ("model.augment.degrees", 10, 8),
        ("trainer.max_epochs", 3, 9),
    ]
    assert list(yaml_files.leaves("[8, 16]", "widths")) == [("widths", [8, 16], 1)]
    assert list(yaml_files.leaves("[" * 1000, "widths")) == [("widths", "[" * 1000, 1)]  # not YAML
