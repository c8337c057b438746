"""A run of the tiny task that a test file makes once, since nothing in it changes it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kit.checkpoints import trust
from kit.cli import process, verbs


def made_once(once: Callable[..., Path], name: str, config: str) -> Path:
    """The run's folder, of a config's text that is named `tiny`.

    Args:
        once: the fixture.
        name: of what `once` makes.
    """

    def make() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trust, "PACKAGES", (*trust.PACKAGES, "tiny_task"))
            Path("config.yaml").write_text(config)
            process.quiet()
            verbs.fit(["--config", "config.yaml"])

    return once(name, make) / "runs" / "tiny" / "version_0"
