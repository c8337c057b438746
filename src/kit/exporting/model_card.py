"""Write the model card of a run, `README.md`: the model, its data, its training, its metrics and its limits.

The page begins with metadata in YAML, which the Hugging Face hub reads. Everything on it comes from the run, and what
the run does not know is left out. Its template is `model_card.md.jinja`, which escapes all values for Markdown.
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kit.checks.report import by_kind, describe
from kit.checks.survey import Survey
from kit.config.annotations import default_of, import_path
from kit.data import ImageDataModule
from kit.data.datamodule import evaluated_split
from kit.evaluation import Evaluation, worst_and_best
from kit.ground import app
from kit.ground._lightning import data_module
from kit.ground._torch import tree_leaves
from kit.ground.files import write_text
from kit.ground.terminal import escape
from kit.ground.yaml_files import read_yaml
from kit.safeguards.checkpoints import Checkpoint
from kit.safeguards.overfitting.verdict import margin_of_error
from kit.task import as_task

Metrics = Mapping[str, float]
# The hub's name of each task, by `ExportedModule.task`.
PIPELINES = {
    "classification": "image-classification",
    "multi_label_classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "generation": "unconditional-image-generation",
    "style": "image-to-image",
}
MAX_BOX_IMAGES = 500  # the interval needs the average precision of each image, which takes seconds for 500
MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~$#!@]|(?<=:)//|(?<=www)\.")


def folder_pattern(values: Iterable[Any]) -> re.Pattern[str]:
    """Return a pattern for the folders of absolute paths, which tell where files are on this machine.

    Args:
        values: values of any type. The absolute paths among them, and their folders, are matched even if they contain
            spaces.
    """
    paths = [Path(value) for value in values if isinstance(value, str) and value.startswith(("/", "~/"))]
    folders = {str(folder) for path in paths for folder in (path, path.parent) if folder.name}
    known_folders = "".join(f"{re.escape(folder)}|" for folder in sorted(folders, key=len, reverse=True))
    posix, windows = rf"(?:{known_folders}~?)/(?:[^\s/]+/)*", r"(?:~|[A-Za-z]:)[/\\](?:[^\s/\\]+[/\\])+"
    return re.compile(rf"(?<![\w.:/\\<])(?:{posix}|{windows})(?=[^\s/\\])")


def markdown(value: Any, folders: re.Pattern[str]) -> str:
    r"""Return a value as text in one line, without special characters of Markdown and HTML, and without folders."""
    if isinstance(value, Markup):
        return value
    return MARKDOWN.sub(lambda match: rf"\{match[0]}", escape(folders.sub("", str(value))))


def write_card(
    folder: Path,
    trainer: L.Trainer,
    model: Any,
    metrics: Metrics,
    survey: Survey | None,
    conclusion: str,
    notes: list[str],
) -> None:
    """Write `folder/README.md` at the end of a run.

    Args:
        folder: the run's folder, which has `config.yaml`.
        trainer, model: the trainer and the model of the run.
        metrics: the value of each metric by log key.
        survey: the faults of the data, or None if the data were not checked.
        conclusion: the verdict and suggestions, see `Overfitting.conclusion`.
        notes: lines about files that were left out.
    """
    task, data, config = as_task(model), data_module(trainer), read_yaml(folder / "config.yaml")
    task_name, split = _task_name(task), evaluated_split(data)
    folders = folder_pattern([str(Path.home()), str(Path.cwd()), str(folder.absolute()), *tree_leaves(config)])
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = FileSystemLoader(Path(__file__).parent)
    environment.finalize = partial(markdown, folders=folders)
    page = environment.get_template("model_card.md.jinja").render(
        metadata=Markup(_metadata(folder.parent.name, task_name, config["data"], split, metrics)),
        name=folder.parent.name,
        package=Markup(app.package),
        config=config,
        in_words=in_words,
        task=task,
        task_name=task_name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        data=data if isinstance(data, ImageDataModule) else None,
        survey=survey,
        faults=by_kind(survey) if survey else [],
        describe=describe,
        notes=[*notes, *(survey.notes if survey else ())],
        trainer=trainer,
        checkpoint_callback=next(c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoint)),
        metrics=worst_and_best(metrics),
        split=split,
        max_box_images=MAX_BOX_IMAGES,
        intervals=_interval(task.latest_evaluation, split, metrics),
        verdict=conclusion.partition("\n")[0],
    )
    write_text(folder / "README.md", page)


def in_words(value: Any, *names_to_omit: str) -> str:
    """Return a part of a config in the form `AdamW(lr=0.003)`, without arguments that have their default values.

    Args:
        value: an object's class path and arguments, a list, or a plain value.
        names_to_omit: the names of further arguments to leave out.
    """
    if isinstance(value, list):
        return f"[{', '.join(map(in_words, value))}]"
    if not isinstance(value, dict) or "class_path" not in value:
        return str(value)
    kind, texts = import_path(value["class_path"]), []
    for key, argument in (value.get("init_args") or {}).items():
        default = default_of(kind, key) if isinstance(kind, type) else None
        default = list(default) if isinstance(default, tuple) else getattr(default, "value", default)  # as in YAML
        if argument != default and key not in names_to_omit:
            texts.append(f"{key}={in_words(argument)}")
    return f"{kind.__name__}({', '.join(texts)})"


def _task_name(task: Any) -> str:
    """Return `ExportedModule.task`, or "" if the task cannot be exported."""
    try:
        return getattr(task.exported(), "task", "") if task.has("exported") else ""
    except Exception:  # a task of any author may raise any exception, which the verb `export` reports
        return ""


def _metadata(name: str, task_name: str, data: Mapping[str, Any], split: str, metrics: Metrics) -> str:
    """Return the page's metadata, YAML with the fields of https://huggingface.co/docs/hub/model-cards."""
    root = (data.get("init_args") or {}).get("root")
    source = escape(Path(root).absolute().name if root else data["class_path"].rpartition(".")[2])
    overall = {key.removeprefix(f"{split}/"): value for key, value in metrics.items() if math.isfinite(value)}
    results = [{"type": key, "value": value} for key, value in overall.items() if not re.search("loss$|/", key)]
    fields: dict[str, Any] = {"library_name": "pytorch", "tags": ["pytorch-lightning"]}
    if results:
        fields["metrics"] = [result["type"] for result in results]
    if pipeline := PIPELINES.get(task_name):
        fields["pipeline_tag"] = pipeline
    if pipeline and results:
        dataset = {"type": source, "name": source, "split": split}
        result = {"task": {"type": pipeline}, "dataset": dataset, "metrics": results}
        fields["model-index"] = [{"name": escape(name), "results": [result]}]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _interval(measured: Evaluation | None, split: str, metrics: Metrics) -> dict[str, str]:
    """Return the 95 % interval of the score that the verdict uses, by log key; {} if there is no such score.

    The interval is "" for boxes in more than `MAX_BOX_IMAGES` images.
    """
    key = f"{split}/{measured.score_name}" if measured else ""
    if measured is None or not math.isfinite(value := metrics.get(key, math.nan)):
        return {}
    if measured.score_name == "map" and len(measured) > MAX_BOX_IMAGES:
        return {key: ""}
    margin = margin_of_error(measured.score_terms())
    return {key: f"{max(0.0, value - margin):.4f} to {min(1.0, value + margin):.4f}"}
