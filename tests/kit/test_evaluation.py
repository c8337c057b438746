"""`Evaluation` and `Task`: what is measured stays the same however the samples come."""

import json
from pathlib import Path

import pytest
import tiny_task
import torch
from tiny_task import Rightness

from kit.boxes.evaluation import BoxEvaluation
from kit.evaluation import Evaluation
from kit.ground.errors import NotMeasured
from kit.labels.evaluation import LabelEvaluation, MultiLabelEvaluation
from kit.masks.evaluation import MaskEvaluation
from kit.samples.evaluation import FlowEvaluation
from kit.task import Task, as_task

NAMES = ["a", "b", "c"]
COUNT = 11
Outputs = tuple[Evaluation, list, list]


def make_outputs(kind: str) -> Outputs:
    """An evaluation, and the outputs and targets of `COUNT` images."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (COUNT,), generator=draw)
    if kind == "labels":
        return LabelEvaluation(NAMES), list(torch.rand(COUNT, 3, generator=draw)), list(labels)
    if kind == "several labels":
        several = torch.rand(COUNT, 3, generator=draw) < 0.4
        return MultiLabelEvaluation(NAMES), list(torch.randn(COUNT, 3, generator=draw)), list(several.float())
    if kind == "masks":
        masks = torch.randint(0, 3, (COUNT, 4, 5), generator=draw)
        masks[2, 0], masks[7] = 255, 255
        return MaskEvaluation(NAMES), list(torch.rand(COUNT, 3, 4, 5, generator=draw)), list(masks)
    if kind == "samples":
        return FlowEvaluation(NAMES), list(torch.rand(COUNT, 2, generator=draw) + 1), list(labels)
    found, targets = [], []
    for count in (labels + 1).tolist():
        boxes = torch.rand(count, 4, generator=draw).cumsum(1) * 40
        own = torch.randint(1, 4, (count,), generator=draw)
        found.append({"boxes": boxes + 1, "scores": torch.rand(count, generator=draw), "labels": own})
        targets.append({"original_boxes": boxes, "labels": own, "crowd": torch.zeros(count, dtype=torch.bool)})
    return BoxEvaluation(NAMES), found, targets


def add(evaluation: Evaluation, outputs: list, targets: list, places: list[int]) -> None:
    chosen = ([one[place] for place in places] for one in (outputs, targets))
    joined = [torch.stack(some) if isinstance(some[0], torch.Tensor) else some for some in chosen]
    evaluation.update(torch.tensor(places), *joined)


def all_results(evaluation: Evaluation) -> dict:
    name, badness = evaluation.badness() or ("", torch.zeros(0))
    return {
        "keys": evaluation.keys.tolist(),
        "metrics": evaluation.compute(by_class=True),
        "shares": evaluation.score_terms().tolist(),
        name: badness.tolist(),
        "charts": repr(evaluation.charts()),
    }


KINDS = ["labels", "several labels", "boxes", "masks", "samples"]
WAYS = {
    "one by one": [[place] for place in range(COUNT)],
    "backwards": [[place] for place in reversed(range(COUNT))],
    "some twice": [[0, 1, 2, 3], [2, 3, 4, 5, 6], [6], [7, 8, 9, 10, 0]],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_sample_counts_once_for_any_batches(kind, way):
    whole, outputs, targets = make_outputs(kind)
    add(whole, outputs, targets, [*range(COUNT)])
    parted, _, _ = make_outputs(kind)
    for places in WAYS[way]:
        add(parted, outputs, targets, places)
    assert all_results(parted) == all_results(whole)
    parted.gather()
    assert all_results(parted) == all_results(whole)
    assert whole.score() == whole.compute()[whole.score_name]


PROCESSES = """
import json, sys
sys.path.insert(0, {folder!r})
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from test_evaluation import KINDS, add, all_results, make_outputs

if __name__ == "__main__":
    rank = LightningEnvironment().local_rank()
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    told = {{}}
    for kind in KINDS:
        evaluation, outputs, targets = make_outputs(kind)
        for places in ([0, 2, 4], [6, 8, 10, 9]) if rank == 0 else ([1, 3], [5, 7]):  # uneven
            add(evaluation, outputs, targets, places)
        evaluation.gather()
        told[kind] = all_results(evaluation)
    with open(f"{{rank}}.json", "w") as file:
        json.dump(told, file)
"""


def test_all_processes_gather_the_same_entries(ranks):
    Path("processes.py").write_text(PROCESSES.format(folder=str(Path(__file__).parent)))
    ended = ranks("processes.py")
    assert ended.returncode == 0, ended.stderr[-3000:]
    for kind in KINDS:
        whole, outputs, targets = make_outputs(kind)
        add(whole, outputs, targets, [*range(COUNT)])
        wanted = json.loads(json.dumps(all_results(whole)))
        for rank in (0, 1):
            assert json.loads(Path(f"{rank}.json").read_text())[kind] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_process_without_samples_has_no_metrics(kind):
    evaluation = make_outputs(kind)[0]
    evaluation.gather()
    assert len(evaluation) == 0 and not evaluation.score() <= 1


def test_has_is_true_for_methods_that_the_task_defines():
    assert {"evaluate", "evaluation", "predict", "draw"} == {
        name for name in ("evaluate", "evaluation", "predict", "draw", "draw_generated", "exported", "loss_terms")
        if tiny_task.Drawn(3, 3).has(name)
    }  # fmt: skip
    plain = as_task(tiny_task.Used(3, 3, NAMES))
    assert plain.has("predict") and not plain.has("draw") and not plain.has("evaluate") and not plain.has("test_stepp")
    assert (plain.monitor, plain.class_names, plain.additive) == ("val/accuracy", NAMES, True)
    assert plain.Predictions is tiny_task.Table
    task = tiny_task.Judged(3, 3)
    assert as_task(task) is task


class MetriclessEvaluation(Rightness):
    why_unmeasured = "no image has a shade"

    def compute(self, by_class=False):
        return {}


class MetriclessTask(tiny_task.Judged):
    def evaluation(self, split):
        return MetriclessEvaluation(self.class_names)


def test_run_without_a_metric_value_ends_with_the_reason(fit, monkeypatch):
    monkeypatch.setattr(tiny_task, "MetriclessTask", MetriclessTask, raising=False)
    Path("tiny.yaml").write_text("model: tiny_task.MetriclessTask\ndata: tiny_task.Shades\ntrainer: {max_epochs: 1}\n")
    with pytest.raises(NotMeasured, match="no image has a shade, so val/accuracy cannot choose a checkpoint"):
        fit("--config", "tiny.yaml")


def test_missing_method_is_named_in_the_error():
    for call in (lambda task: task.evaluate(None), lambda task: task.evaluation("val"), lambda task: task.exported()):
        with pytest.raises(NotImplementedError, match=r"^Task "):
            call(Task())
