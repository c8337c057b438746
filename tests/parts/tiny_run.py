"""A run that a test file makes once, since nothing in it changes it."""

from pathlib import Path

import pytest

from project import process, trust, verbs


def made_once(folder: Path, config: str) -> Path:
    """The run's folder, in `folder`, of a config's text that is named `tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(trust, "PACKAGES", (*trust.PACKAGES, "tiny_task"))
        Path("config.yaml").write_text(config)
        process.quiet()
        verbs.fit(["--config", "config.yaml"])
    return folder / "runs" / "tiny" / "version_0"
