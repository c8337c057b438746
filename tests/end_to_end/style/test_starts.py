"""Each kind of features is used as a run has it."""

import pytest
import starts
import timm


@pytest.mark.parametrize(
    "features",
    ["ClassifierFeatures", *(pytest.param(way, marks=pytest.mark.slow) for way in ("weights", "pretrained"))],
)
def test_fit_test_predict_export_and_resume(features, fit, repository, tiny, tmp_path, monkeypatch, capsys):
    tiny.photos(tmp_path / "data", 6)
    given = ["--config", str(repository / "configs" / "style.yaml"), "--data.root", "data"]
    given += ["--data.image_size", "[48, 40]", "--data.augment", "[]", "--model.style", "data/0.png"]
    given += ["--model.style_size", "32", "--data.batch_size", "3"]
    if features == "ClassifierFeatures":
        tiny.classifier(tmp_path / "classifier.ckpt")
        given += ["--model.features.run", "classifier.ckpt"]
    else:
        name, num_classes = "mobilenetv3_small_050", 7 if features == "weights" else 1000
        start = starts.arguments(features, timm.create_model(name, num_classes=num_classes).state_dict(), monkeypatch)
        given += ["--model.features", "kit.samples.TimmFeatures", "--model.features.name", name]
        given += ["--model.features.weights", start["weights"]] if "weights" in start else []
    starts.goes_all_the_way(fit, capsys, given, {"widths": [4, 8]})
