"""The smallest clone passes its own tests; all others: `make test-clones`."""

import subprocess

from project.cloning.making import make


def test_a_clones_own_tests_pass(clones, tmp_path):
    clone = tmp_path / clones.NAME
    make(clones.TEMPLATE, clone, clones.NAME, clones.by_size()[:1])
    command, environment = clones.pytest(), clones.environment(clone)
    ended = subprocess.run(command, cwd=clone, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert " passed" in ended.stdout
