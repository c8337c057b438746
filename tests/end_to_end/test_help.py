"""`--help` prints a page that is kept with the package. Its keys and their defaults are those of the real parsers."""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from kit.cli.command_line import CLI, Inspection
from kit.cli.start import page
from kit.cloning import command as cloning
from kit.config.annotations import default_of, parameter_annotations
from kit.config.mistakes import KeyChecker
from kit.config.parser import PlainParser
from kit.exporting import export
from kit.ground import app
from kit.ground.yaml_files import leaves

REPOSITORY = Path(__file__).resolve().parents[2]
VERBS = ("fit", "test", "check", "predict", "export", "report", "new")
OPTION = re.compile(r"^  (--[\w.]+)\+?=?(?: .*?)?(?: \[(.*)\])?$", re.MULTILINE)


class Captured(Exception):
    """Raised with a parser when it is complete."""


def capture(self: argparse.ArgumentParser, *_: object) -> None:
    raise Captured(self)


def options(verb: str) -> dict[str, str]:
    """Return the options of a page, and the default of each as the page has it, or ""."""
    return {name: default for name, default in OPTION.findall(page(verb)) if "KEY" not in name}


@pytest.mark.parametrize("verb", VERBS)
def test_page_fits_a_screen_and_names_its_command(verb):
    lines = page(verb).replace(app.command(verb), "COMMAND").splitlines()
    assert len(lines) <= 60 and all(len(line) <= 120 for line in lines)
    assert lines[0].startswith("usage: COMMAND ")


@pytest.mark.parametrize(("verbs", "kind"), [(("fit", "test"), CLI), (("check",), Inspection)])
def test_page_of_a_run_has_the_keys_and_the_defaults_of_its_parser(verbs, kind, monkeypatch):
    monkeypatch.setattr(kind, "parse_arguments", lambda self, parser, args: capture(parser))
    with pytest.raises(Captured) as captured:
        kind([])
    parser = captured.value.args[0]
    found = dict(pair for verb in verbs for pair in options(verb).items())
    defaults, known = vars(parser.get_defaults().as_flat()), {"--trust"}
    for file in sorted((REPOSITORY / "configs").glob("*.yaml")):
        checker = KeyChecker(parser)
        for key, value, _ in leaves(file.read_text()):
            assert checker.check(key, value) is None  # no mistake is found in a right config
        known |= {f"--{key}" for key in checker.known_keys()} | set(parser._option_string_actions)
        for key, owner in checker.classes.items():
            names = {option.removeprefix(f"--{key}.") for option in found} & set(parameter_annotations(owner))
            defaults |= {f"{key}.{name}": default_of(owner, name) for name in names}
    assert found and not set(found) - known
    for option, default in found.items():
        if default:
            assert defaults[option.removeprefix("--")] == yaml.safe_load(default), option


def test_page_of_export_has_the_options_of_its_parser(monkeypatch):
    monkeypatch.setattr(PlainParser, "read", capture)
    with pytest.raises(Captured) as captured:
        export([])
    names = {name for action in captured.value.args[0]._actions for name in action.option_strings}
    assert set(options("export")) == names - {"-h", "--help"} - {name for name in names if "print" in name}


def test_page_of_new_has_the_options_of_its_parser(monkeypatch):
    monkeypatch.setattr(cloning._Parser, "parse_args", capture)
    monkeypatch.setattr(cloning.Template, "here", lambda: SimpleNamespace(tasks=["one"]))
    with pytest.raises(Captured) as captured:
        cloning.new([])
    names = {name for action in captured.value.args[0]._actions for name in action.option_strings}
    assert set(options("new")) == names - {"-h", "--help"}


def test_help_is_printed_without_the_imports_of_a_run():
    program = (
        "import runpy, sys; sys.argv = ['fit', '--trainer.max_epochs', '3', '--help']\n"
        f"try: runpy.run_module({app.package + '.fit'!r}, run_name='__main__')\n"
        "except SystemExit as ended: print(ended.code, {'torch', 'numpy', 'lightning'} & {*sys.modules})"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY / "src")
    assert ended.stdout.endswith("\n0 set()\n"), ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--help"], "--model.optimizer.lr"),
        (["test", "-h"], "RUN_OR_CHECKPOINT"),
        (["fit", "--help", "all"], "--trainer.reload_dataloaders_every_n_epochs"),
        (["check", "--help", "all"], "--html"),
        (["fit", "--model.help", "tiny_task.Judge"], "--model.lr LR"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help(words, expected, command, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "kit" / "parts"))
    ended = command(*words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert expected in ended.stdout
