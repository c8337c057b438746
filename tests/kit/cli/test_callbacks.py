from pathlib import Path

import lightning as L

from kit.cli.callbacks import ORDER


class Own(L.Callback):
    """A user's callback."""


def test_a_run_has_its_callbacks_in_the_order_that_they_need(fit, monkeypatch):
    callbacks = []
    monkeypatch.setattr(Own, "on_fit_start", lambda self, trainer, _: callbacks.extend(trainer.callbacks))
    monkeypatch.setattr("tiny_task.Own", Own, raising=False)
    Path("tiny.yaml").write_text("model: tiny_task.Judged\ndata: tiny_task.Shades\ntrainer: {max_epochs: 1}\n")
    fit("--config", "tiny.yaml", "--trainer.callbacks", "[tiny_task.Own, kit.training.EMA]")
    assert len(callbacks) >= 13
    checked, leading = 0, ()
    for before, after, reason in ORDER:
        firsts = [place for place, callback in enumerate(callbacks) if isinstance(callback, before)]
        others = [
            place
            for place, callback in enumerate(callbacks)
            if isinstance(callback, after) and not isinstance(callback, (before, *leading))
        ]
        if before is L.Callback:
            firsts = [place for place in firsts if not isinstance(callbacks[place], after)]
            others = [place for place, callback in enumerate(callbacks) if isinstance(callback, after)]
        assert max(firsts) < min(others), (before, after, reason)
        checked += 1
        leading = (*leading, before) if after == (L.Callback,) else leading
    assert checked == len(ORDER) == 6
