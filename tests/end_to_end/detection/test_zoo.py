"""Detectors of timm and transformers, from a configuration to a resumed run."""

import json
import shutil

import pytest
import starts
import torch
import transformers
import yaml
from tiny_transformers import DETECTORS

import project
from kit.cli import verbs
from kit.zoo import timm_detection

SMALL = ["--data.root", "data", "--data.image_size", "[22, 30]", "--data.batch_size", "2", "--data.cache", "ram"]
SMALL += ["--seed_everything", "1"]  # with others, rounding decides which of many equal scores are returned
SMALL += ["--data.mean", "[0.485, 0.456, 0.406]", "--data.std", "[0.229, 0.224, 0.225]"]  # scores differ more
TIMM = {"test_resnet": {"head": "fcos"}, "test_efficientnet": {"head": "retinanet"}, "test_vit": {"strides": [8, 16]}}
NETS = [
    *(("TimmDetector", name, {"name": name, "neck": 64, **more}) for name, more in TIMM.items()),
    *(("TransformersDetector", name, {"name": "net"}) for name in DETECTORS),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "net"), NETS)
def test_fit_test_predict_export_and_resume(kind, name, net, fit, repository, tiny, capsys, tmp_path, monkeypatch):
    tiny.coco_parts(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    if name in DETECTORS:
        (tmp_path / "net").mkdir()
        (tmp_path / "net" / "config.json").write_text(json.dumps(DETECTORS[name]))
    monkeypatch.setattr(timm_detection, "SCORE", 0.5)  # untrained, all score alike
    given = [
        "--config",
        str(repository / "configs" / "detection_finetune.yaml"),
        *SMALL,
        "--model.net",
        f"kit.zoo.{kind}",
    ]
    starts.goes_all_the_way(fit, capsys, given, {**net, "pretrained": False})


def test_run_of_pretrained_weights_needs_neither_network_nor_folder(fit, repository, tiny, tmp_path, monkeypatch):
    tiny.coco_parts(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    config = transformers.AutoConfig.for_model(**DETECTORS["rf_detr"], num_labels=7)
    transformers.AutoModelForObjectDetection.from_config(config).save_pretrained("net")
    given = ["--config", str(repository / "configs" / "detection_finetune.yaml"), *SMALL, "--trainer.max_epochs", "1"]
    given += [
        "--model.net",
        "kit.zoo.TransformersDetector",
        "--model.net.name",
        "net",
        "--model.net.pretrained",
        "true",
    ]
    run = fit(*given, "--data.num_workers", "0", "--check", "off", "--dashboard.enabled", "false")
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["net"]["init_args"]["config"]
    shutil.rmtree("net")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reported = (run / "results.json").read_text()
    verbs.test([str(run)])
    assert (run / "results.json").read_text() == reported
    assert len(project.load(run).predict([torch.zeros(3, 22, 30, dtype=torch.uint8)])) == 1
    fit("--resume", str(run), "--trainer.max_epochs", "2")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
