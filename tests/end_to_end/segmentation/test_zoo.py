"""Segmentation nets of transformers, from a configuration to a resumed run."""

import json

import pytest
import starts
from tiny_transformers import SEGMENTERS

QUICK = ("segformer",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in SEGMENTERS])
def test_fit_test_predict_export_and_resume(name, fit, repository, tiny, capsys, tmp_path):
    root = tiny.folders(tmp_path / "data", {"train": 6, "val": 2, "test": 2})
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text(json.dumps(SEGMENTERS[name]))
    given = ["--config", str(repository / "configs" / "segmentation_finetune.yaml"), "--data.root", str(root)]
    given += ["--data.image_size", "[64, 64]", "--data.augment", "[]", "--data.keep_aspect", "false"]
    given += ["--data.batch_size", "2", "--data.cache", "ram", "--model.optimizer.lr", "0.01"]
    given += ["--model.net", "kit.zoo.TransformersSegmenter"]
    starts.goes_all_the_way(fit, capsys, given, {"name": "net", "pretrained": False})
