"""Each net, and each kind of features, is used as a checkpoint of it has it."""

import pytest
import starts


@pytest.mark.slow
def test_fit_test_predict_export_and_resume(fit, repository, capsys):
    given = ["--config", str(repository / "configs" / "generation.yaml"), "--trainer.callbacks", "[]"]
    given += ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2", "--model.samples", "20"]
    given += ["--model.solver.steps", "2"]
    starts.goes_all_the_way(fit, capsys, given, {"widths": [8]}, images=False)
