"""The smallest clone passes its own tests; all others: `make test-clones`."""


def test_a_clone_begins_its_own_tests(smallest):
    _, process = smallest
    assert process.poll() is None


def test_a_clones_own_tests_pass(smallest):
    folder, process = smallest
    process.wait()
    log = (folder / "log").read_text()
    assert process.returncode == 0, log[-5000:]
    assert " passed" in log
