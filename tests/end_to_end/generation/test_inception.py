"""Standard FID, with weights that nobody trained: the same distances as by hand, and mistakes that are told at once."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch

from kit.cli import verbs
from kit.ground.errors import UserError
from kit.samples import inception
from kit.samples.evaluation import frechet_distance

CONFIG = str(Path(__file__).parents[3] / "configs" / "generation.yaml")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file as the one of the trained weights."""
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    kind = extractor.FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(kind, "load_state_dict", lambda *_: None)
        made = kind("inception-v3-compat", ["64"])
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(made.state_dict(), file)
    return file


@pytest.fixture(autouse=True)
def few_features(monkeypatch):
    """Of an early layer: those of the last take a minute to be compared."""
    monkeypatch.setattr(inception, "FEATURES", 64)


def images(count: int, channels: int, bright: int = 0) -> torch.Tensor:
    made = torch.randint(0, 200, (count, channels, 8, 9), generator=torch.Generator().manual_seed(count))
    return (made + bright).to(torch.uint8)


@pytest.mark.slow
def test_fid_equals_the_distance_of_the_features(weights):
    real, near, far = images(6, 1), images(7, 1), images(8, 1, bright=50)
    found = inception.distances(str(weights), real, {"itself": real, "near": near, "far": far}, CPU)
    net = inception.load(str(weights)).inception
    seen = [net(some.expand(-1, 3, -1, -1)).double() for some in (real, near, far)]
    assert found["itself"] == pytest.approx(0, abs=1e-4)
    assert found["near"] == pytest.approx(frechet_distance(seen[1], seen[0]), rel=1e-2)
    assert found["far"] == pytest.approx(frechet_distance(seen[2], seen[0]), rel=1e-2)
    assert found["far"] > 2 * found["near"] > 0


@pytest.mark.slow
def test_first_process_computes_fid_alone(weights, monkeypatch):
    def gathered(*_, **__) -> None:
        raise AssertionError("the others are not there")

    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)
    monkeypatch.setattr("torchmetrics.metric.gather_all_tensors", gathered)
    assert inception.distances(str(weights), images(6, 1), {"near": images(7, 1)}, CPU)["near"] > 0


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


def test_mistakes_are_one_line(monkeypatch):
    pytest.importorskip("torch_fidelity")
    Path("other.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"weight": torch.zeros(3)}, "small.pth")
    for file, message in {
        "gone.pth": r"gone\.pth is not weights-inception.* No such file",
        "other.pth": "is not weights-inception",
        "small.pth": "is not weights-inception",
    }.items():
        with pytest.raises(UserError, match=message) as raised:
            inception.load(file)
        assert "\n" not in str(raised.value)
    assert not Path("evil").exists()
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"needs torch_fidelity: pip install .*\[fid\]"):
        inception.load("small.pth")


@pytest.mark.slow
def test_report_has_fid(weights, fit, monkeypatch, capsys):
    monkeypatch.setattr("kit.samples.judge.MIN_STEPS", 5)
    short = ["--config", CONFIG, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--model.samples",
             "6", "--data.batch_size", "6", "--trainer.limit_test_batches", "1", "--model.net.widths", "[8]",
             "--model.solver.steps", "1"]  # fmt: skip
    with pytest.raises(UserError, match=r"gone\.pth is not weights-inception.* No such file"):
        fit(*short, "--model.inception", "gone.pth")
    run = fit(*short, "--model.inception", str(weights))
    results = json.loads((run / "results.json").read_text())
    assert results["test/fid"] > 0 and results["test/fid_train_images"] > 0
    capsys.readouterr()
    verbs.test([str(run), "--trainer.limit_test_batches", "1"])
    said = capsys.readouterr().out
    assert f"test/fid {results['test/fid']:.4f}" in " ".join(said.split())
