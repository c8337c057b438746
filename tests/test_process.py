"""What the processes that run a verb are set to."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from project import process

process.prepare()
for step in range(20):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(10_000_000) for _ in range(3)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is set")
def test_memory_of_a_step_serves_the_next():
    ended = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    pages = int(ended.stdout)
    assert pages < 1000, "ten times 120 MB came from the system again: 290,000 pages"
