"""The page `README.md` that a run leaves in its folder, and that the hub shows."""

import functools
import json
import math
import re
from pathlib import Path

import pytest
import tiny_task
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from tiny_run import killed_at, write_config

from kit.checks.survey import Survey
from kit.cli import verbs
from kit.exporting import model_card
from kit.exporting.model_card import folder_pattern, in_words, markdown
from kit.ground import app
from kit.ground.faults import fault
from kit.safeguards.overfitting.verdict import margin_of_error
from kit.training.weights import Weights, set_initial_weights


@pytest.fixture(autouse=True)
def config() -> None:
    write_config(max_epochs=2)


def card(name: str = "tiny", *args: str) -> str:
    verbs.fit(["--config", "tiny.yaml", "--name", name, *args])
    return Path(f"runs/{name}/version_0/README.md").read_text()


def fields(content: str) -> dict:
    """Return the metadata, as the hub's client finds it: between the first two lines of three hyphens."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)[1])


def tables(content: str) -> dict[str, list[str]]:
    """Return the rows of all tables as a Markdown program reads them: the first cell, and the texts of the others."""
    tokens = MarkdownIt("commonmark").enable("table").parse(content.partition("\n---\n")[2])
    rows: dict[str, list[str]] = {}
    cells: list[str] = []
    for token in tokens:
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline" and token.level > 3:
            assert all(child.type in ("text", "text_special") for child in token.children), token.content
            cells.append("".join(child.content for child in token.children))
        elif token.type == "tr_close":
            rows[cells[0]] = cells[1:]
    return rows


def test_metadata_have_the_measured_values():
    content = card()
    results = json.loads(Path("runs/tiny/version_0/results.json").read_text())
    data = fields(content)
    assert data["library_name"] == "pytorch" and data["metrics"] == ["accuracy"]
    assert "pipeline_tag" not in data and "license" not in data  # the task is none of the hub's, no licence is known
    assert tables(content)["test/accuracy"][0] == f"{results['test/accuracy']:.4f}"


def test_metadata_of_a_task_of_the_hub(monkeypatch):
    monkeypatch.setattr(tiny_task.Answer, "task", "multi_label_classification")
    data = fields(card("tiny", "--model", "tiny_task.Carried", "--data.root", str(Path("my data").absolute())))
    results = json.loads(Path("runs/tiny/version_0/results.json").read_text())
    assert data["pipeline_tag"] == "image-classification"
    assert data["model-index"] == [
        {
            "name": "tiny",
            "results": [
                {
                    "task": {"type": "image-classification"},
                    "dataset": {"type": "my data", "name": "my data", "split": "test"},
                    "metrics": [{"type": "accuracy", "value": results["test/accuracy"]}],
                }
            ],
        }
    ]


def test_interval_is_that_of_a_bootstrap(monkeypatch):
    """11 test images, of which 9 are right."""
    right = torch.tensor([1.0] * 9 + [0.0] * 2, dtype=torch.double)
    shares = torch.stack([right, torch.ones_like(right)], 1)[..., None]
    monkeypatch.setattr(tiny_task.Rightness, "compute", lambda *_, **__: {"accuracy": 9 / 11})
    monkeypatch.setattr(tiny_task.Rightness, "score_terms", lambda self: shares)
    value, interval = tables(card())["test/accuracy"]
    low, high = (float(text) for text in interval.split(" to "))
    margin = margin_of_error(shares)
    assert value == "0.8182" and low == round(9 / 11 - margin, 4) and high == min(1.0, round(9 / 11 + margin, 4))


def test_page_says_what_the_run_was():
    rows = tables(card())
    assert rows["class"] == ["Drawn(lr=0.05)"] and rows["parameters"] == ["723"]  # 144 x 3 weights, 3 biases, BatchNorm
    assert rows["height and width"] == ["6x8"] and rows["channels"] == ["3"] and rows["classes"] == ["3"]
    assert rows["steps"] == ["10"] and rows["images in a step"] == ["8"] and rows["seed"] == ["0"]
    assert rows["chosen checkpoint"] == ["from step 10, with the highest val/accuracy"]
    assert "optimizer" not in rows and "initial weights" not in rows  # the tiny task has neither in its config


def test_page_has_the_data_the_verdict_and_the_size_of_the_test():
    content = card()
    assert "data: Shades, 40 / 21 / 11 images (train / val / test), 3 classes; 6x8 pixels\n" in content
    assert "11 samples of the test split were measured." in content
    assert "The run's verdict: " in content and "found no faults" in content and "no test split" not in content


def test_page_of_validation_figures_says_so():
    content = card("tiny", "--data.test", "0", "--check", "off")
    assert "no test split" in content and "val/accuracy" in tables(content) and "were not checked" in content


def test_page_lists_the_faults(monkeypatch):
    faults = [fault("leak", "/far/away/train/a.png", "is | also in test"), *[fault("dark", "b.png", "is dark")] * 2]
    survey = Survey(faults, {"train": 3}, "/far/away", 0.1, ["only 3 of 9 files were checked"])
    monkeypatch.setattr(verbs, "_check_quickly", lambda *_, **__: survey)
    content = card()
    assert tables(content)["error"] == ["leak", "1", "train/a.png: is | also in test"]
    assert tables(content)["warning"] == ["dark", "2", "b.png: is dark"]
    assert "only 3 of 9 files were checked" in content and "The data have the faults above" in content


def test_resumed_run_has_the_same_page(monkeypatch):
    """This includes the weights that it started from, which a resumed run does not load."""
    build = tiny_task.Drawn.__init__

    @functools.wraps(build)
    def start(self, *args, **kwargs):
        build(self, *args, **kwargs)
        weights = Weights(self.net.state_dict(), str(Path("far/away/old.pt").absolute()), "MIT")
        if started:
            set_initial_weights(self.net, weights, weights.tensors)

    monkeypatch.setattr(tiny_task.Drawn, "__init__", start)
    started = True
    options = ["--exact_resume.every_minutes", "0"]
    whole = card("whole", *options)
    with killed_at(7):
        card("killed", *options)
    started = False
    verbs.fit(["--resume", "runs/killed/version_0"])
    assert Path("runs/killed/version_0/README.md").read_text() == whole.replace("whole", "killed")
    rows = tables(whole)
    assert rows["initial weights"] == ["old.pt (MIT)"]
    assert re.fullmatch("[0-9a-f]{64}", rows["SHA-256 of the initial weights"][0])


def test_names_are_text(monkeypatch):
    names = ["a | b", "<script>alert(1)</script>\n---\n# x", "[x](http://example.org) `c` *d* _e_ ![f](g)"]
    monkeypatch.setattr(tiny_task.Shades, "find_class_names", lambda self: names)
    compute = tiny_task.Rightness.compute

    def by_class(self, by_class=False):
        return {**compute(self), **({f"accuracy/{name}": 0.5 for name in names} if by_class else {})}

    monkeypatch.setattr(tiny_task.Rightness, "compute", by_class)
    content = card("odd", "--data.root", "a: | b")
    rows = tables(content)
    assert rows[f"test/accuracy/{names[0]}"][0] == "0.5000"
    assert rows["test/accuracy/<script>alert(1)</script>\\n---\\n# x"][0] == "0.5000"
    assert rows[f"test/accuracy/{names[2]}"][0] == "0.5000"
    assert fields(content)["metrics"] == ["accuracy"]
    rendered = MarkdownIt("commonmark").enable("table").render(content.partition("\n---\n")[2])
    assert not re.search("<(script|a|img|em)[ >]", rendered) and rendered.count("<h1>") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,020 / 34 / 34 images", "1,020 / 34 / 34 images"),
        ("/home/ada/cats/train/a.png is a copy", "a.png is a copy"),
        ("weights='/a/b.pt', x=1", "weights='b.pt', x=1"),
        ("~/cats/a.png and C:\\Users\\ada\\b.png", "a.png and b.png"),
        ("data/cats/a.png", "data/cats/a.png"),
        ("tf_net", r"tf\_net"),
        ("https://example.org", r"https:\//example.org"),
        (0.5, "0.5"),
    ],
)
def test_text_is_escaped_and_has_no_folders(text, expected):
    assert markdown(text, folder_pattern([])) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada lovelace/data/x.jpg is dark", "x.jpg is dark"),
        ("/mnt/big disk/my cats, 4 images", "my cats, 4 images"),
        ("/mnt/big disk/my cats/train/a b.png", "a b.png"),
        ("weights=/srv/old nets/start.pt", "weights=start.pt"),
        ("https://example.org/mnt/big disk/x", r"https:\//example.org/mnt/big disk/x"),
    ],
)
def test_known_folders_may_have_spaces(text, expected):
    folders = folder_pattern(["/home/ada lovelace", "/mnt/big disk/my cats", "/srv/old nets/start.pt", 3, None, "/"])
    assert markdown(text, folders) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0, "nesterov": True}}, "SGD(lr=0.1, n"),
        ({"class_path": "torch.optim.AdamW", "init_args": {"betas": [0.9, 0.999], "eps": 1e-8}}, "AdamW()"),
        ([{"class_path": "torch.nn.Tanh"}, {"class_path": "torch.nn.ELU", "init_args": {"alpha": 2}}], "[Tanh(), ELU("),
        (
            {
                "class_path": "torchvision.transforms.v2.RandomRotation",
                "init_args": {"degrees": 5, "interpolation": "nearest"},
            },
            "RandomRotation(degrees=5)",
        ),
    ],
)
def test_config_in_words(value, expected):
    assert in_words(value).startswith(expected)


def test_plain_module_has_a_page():
    content = card("plain", "--model", "tiny_task.Judge")
    value, interval = tables(content)["test/accuracy"]
    assert math.isfinite(float(value)) and not interval and "## Limits" in content


def test_plain_module_may_log_any_key(monkeypatch):
    """Also, its argument `net` need not be an object."""

    monkeypatch.setattr(tiny_task.Answer, "task", "classification")
    content = card("named", "--model", "tiny_task.Named", "--model.net", "linear")
    (result,) = ModelCard(content).data.eval_results
    assert tables(content)["network"] == ["linear"] and tables(content)["test_accuracy"] == ["0.2500", ""]
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("test_accuracy", 0.25, "test")


def test_error_in_the_card_changes_no_result(monkeypatch):
    monkeypatch.setattr(model_card, "in_words", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="model card was not written .division by zero"):
        verbs.fit(["--config", "tiny.yaml"])
    folder = Path("runs/tiny/version_0")
    assert (folder / "results.json").is_file() and not (folder / "README.md").exists()


def test_run_without_a_validation_chooses_the_last_step():
    rows = tables(card("tiny", "--trainer.limit_val_batches", "0"))
    assert rows["chosen checkpoint"] == ["from the last step"]


def test_many_images_with_boxes_have_no_interval(monkeypatch):
    monkeypatch.setattr(model_card, "MAX_BOX_IMAGES", 10)
    monkeypatch.setattr(tiny_task.Rightness, "score_name", "map")
    monkeypatch.setattr(tiny_task.Rightness, "compute", lambda *_, **__: {"accuracy": 0.5, "map": 0.5})
    content = card()
    assert tables(content)["test/map"] == ["0.5000", ""] and "more than 10 images" in content


def test_commands_have_the_name_of_the_package(monkeypatch):
    monkeypatch.setattr(app, "package", "my_project")
    content = card("tiny", "--model", "tiny_task.Carried")
    assert "import my_project\n" in content and "`python -m my_project.export RUN`" in content


def test_run_without_a_test_has_a_page():
    content = card("untested", "--trainer.limit_test_batches", "0")
    assert "Nothing was measured." in content and "metrics" not in fields(content)


def test_task_that_cannot_be_exported_has_a_page(monkeypatch):
    def fail(self):
        raise RuntimeError("not today")

    monkeypatch.setattr(tiny_task.Carried, "exported", fail)
    assert "model.onnx" not in card("failing", "--model", "tiny_task.Carried")
