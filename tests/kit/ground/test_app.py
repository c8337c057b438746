"""Printed commands run as printed, from the folder in which they are printed."""

import sys

import pytest

from kit.ground import app


@pytest.mark.parametrize(
    ("executable", "path", "python"),
    [
        (".venv/bin/python", "", ".venv/bin/python"),
        (".venv/bin/python", ".venv/bin", ".venv/bin/python"),  # the shortest that works without an activation
        ("../env/bin/python", "../env/bin", "python"),
        ("../env/bin/python", "", "{parent}/env/bin/python"),
        ("../my env/bin/python", "../other/bin", "'{parent}/my env/bin/python'"),
    ],
)
def test_command_names_the_interpreter_that_runs(executable, path, python, monkeypatch, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for file in ("here/.venv/bin/python", "env/bin/python", "my env/bin/python", "other/bin/python"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str((here / executable).resolve()))
    monkeypatch.setenv("PATH", str((here / path).resolve()) if path else "")
    assert app.command("fit") == f"{python.format(parent=tmp_path)} -m tiny_app.fit"
