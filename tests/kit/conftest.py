"""The library without the project: its application is `tiny_app`, its tasks are those of `tiny_task`."""

import pytest

from kit.ground import app


@pytest.fixture(autouse=True)
def application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "package", "tiny_app")
