"""Detectors of timm and transformers, from a configuration to a resumed run."""

import json

import pytest
import starts
from tiny_transformers import DETECTORS

from kit.zoo import timm_detection

TIMM = {"test_resnet": {"head": "fcos"}, "test_efficientnet": {"head": "retinanet"}, "test_vit": {"strides": [8, 16]}}
NETS = [
    *(("TimmDetector", name, {"name": name, "neck": 64, **more}) for name, more in TIMM.items()),
    *(("TransformersDetector", name, {"name": "net"}) for name in DETECTORS),
]
QUICK = ("rf_detr",)


@pytest.mark.parametrize(
    ("kind", "name", "net"), [pytest.param(*row, marks=[pytest.mark.slow] * (row[1] not in QUICK)) for row in NETS]
)
def test_fit_test_predict_export_and_resume(kind, name, net, fit, repository, tiny, capsys, tmp_path, monkeypatch):
    tiny.coco_parts(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    if name in DETECTORS:
        (tmp_path / "net").mkdir()
        (tmp_path / "net" / "config.json").write_text(json.dumps(DETECTORS[name]))
    monkeypatch.setattr(timm_detection, "SCORE", 0.5)  # untrained, all score alike
    given = ["--config", str(repository / "configs" / "detection_finetune.yaml"), "--data.root", str(tmp_path / "data")]
    given += ["--data.image_size", "[22, 30]", "--data.batch_size", "2", "--data.cache", "ram"]
    given += ["--model.net", f"kit.zoo.{kind}"]
    starts.goes_all_the_way(fit, capsys, given, {**net, "pretrained": False})
