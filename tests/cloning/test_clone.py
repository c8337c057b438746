"""The smallest clone passes its own tests: those of what it shares with this project run beside this one.

Whole clones, of each task: `make test-clones`.
"""

import subprocess

import pytest

from project.cloning.making import make


@pytest.mark.slow
def test_a_clones_own_tests_pass(clones, tmp_path):
    clone = tmp_path / clones.NAME
    tasks = clones.by_size()[:1]
    make(clones.TEMPLATE, clone, clones.NAME, tasks)
    command = clones.pytest(*clones.tests_of_its_own(clone, tasks))
    environment = clones.environment(clone)
    ended = subprocess.run(command, cwd=clone, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert " passed" in ended.stdout
