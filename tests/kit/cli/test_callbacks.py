from pathlib import Path

import lightning as L

from kit.cli.callbacks import ORDER


class UserCallback(L.Callback):
    """A user's callback."""


def test_callbacks_of_a_run_are_in_order(fit, monkeypatch):
    callbacks = []
    monkeypatch.setattr(UserCallback, "on_fit_start", lambda self, trainer, _: callbacks.extend(trainer.callbacks))
    monkeypatch.setattr("tiny_task.UserCallback", UserCallback, raising=False)
    Path("tiny.yaml").write_text("model: tiny_task.Judged\ndata: tiny_task.Shades\ntrainer: {max_epochs: 1}\n")
    fit(
        "--config",
        "tiny.yaml",
        "--trainer.callbacks",
        "[tiny_task.UserCallback, kit.training.EMA, kit.training.FineTuning]",
    )
    assert len(callbacks) >= 14
    checked, leading = 0, ()
    for before, after, reason in ORDER:
        firsts = [index for index, callback in enumerate(callbacks) if isinstance(callback, before)]
        others = [
            index
            for index, callback in enumerate(callbacks)
            if isinstance(callback, after) and not isinstance(callback, (before, *leading))
        ]
        if before is L.Callback:
            firsts = [index for index in firsts if not isinstance(callbacks[index], after)]
            others = [index for index, callback in enumerate(callbacks) if isinstance(callback, after)]
        assert max(firsts) < min(others), (before, after, reason)
        checked += 1
        leading = (*leading, before) if after == (L.Callback,) else leading
    assert checked == len(ORDER) == 9
