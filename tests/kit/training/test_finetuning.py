"""The head is fitted first, and the layers below it learn with smaller rates, also in a resumed run."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from chosen_task import Chosen
from tiny_task import Shades
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from kit.ground.errors import UserError
from kit.safeguards import Checkpoint
from kit.task import Task
from kit.training import EMA, FineTuning
from kit.training.finetuning import fit_linear, learning_rates
from kit.training.schedule import parameter_groups
from kit.training.weights import load_weights, read_weights


class Net(nn.Module):
    """Two layers with weights from a file, if one is given, and a head."""

    def __init__(self, num_classes: int, in_channels: int = 3, weights: str | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
        self.head = nn.Linear(5, num_classes)
        if weights:
            load_weights(self.body, weights)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


class Tuned(Chosen):
    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch.images), batch.targets)

    def evaluate(self, batch):
        return self(batch.images)


def saved(name: str = "weights.pt") -> str:
    torch.manual_seed(5)
    torch.save({f"net.body.{key}": value for key, value in Net(7).body.state_dict().items()}, name)
    return name


def task(weights: str | None) -> Tuned:
    torch.manual_seed(1)
    return Tuned(3, 3, net=lambda **arguments: Net(**arguments, weights=weights), schedule=None)


def trained(module: L.LightningModule, steps: int = 2, **options) -> FineTuning:
    callback = FineTuning(**options)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False
    )
    trainer.fit(module, datamodule=Shades(train=60, val=30, batch_size=8))
    return callback


def test_logistic_regression_finds_the_known_probabilities():
    features = torch.tensor([[3.0, 100.0], [3.0, 100.0], [3.0, 100.0], [5.0, 100.0]]).repeat(50, 1)
    targets = torch.tensor([0, 0, 1, 2]).repeat(50)
    weight, bias = fit_linear(features, targets, 3)
    probabilities = (features[:4] @ weight.T + bias).softmax(1)
    assert torch.allclose(probabilities[0], torch.tensor([2 / 3, 1 / 3, 0]), atol=0.05)
    assert probabilities[3, 2] > 0.95
    weight, bias = fit_linear(features, targets, 3, torch.tensor([1.0, 2, 1]))
    probabilities = (features[:4] @ weight.T + bias).softmax(1)
    assert torch.allclose(probabilities[0], torch.tensor([1 / 2, 1 / 2, 0]), atol=0.05)
    several = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 1]]).repeat(50, 1)
    weight, bias = fit_linear(features, several, 2)
    assert torch.allclose((features[0] @ weight.T + bias).sigmoid(), torch.tensor([1, 1 / 3]), atol=0.05)


def test_rates_fall_from_the_last_pretrained_layer_to_the_first():
    layers = [f"body.{i}" for i in range(16)]
    names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")] + ["neck.weight", "head.weight"]
    rates = learning_rates(names, {name for name in names if name.startswith("body")}, 0.5, frozen_parts=1)
    assert rates["body.15.weight"] == rates["body.14.bias"] == 0.5
    assert rates["body.2.weight"] == rates["body.3.bias"] == 0.5**7
    assert rates["body.0.weight"] == rates["body.1.bias"] == 0
    assert not {"neck.weight", "head.weight"} & rates.keys()


def test_a_small_net_has_a_part_per_layer():
    names = [f"body.{i}.weight" for i in range(4)]
    assert list(learning_rates(names, {*names}, 0.5, frozen_parts=1).values()) == [0.0, 0.5**3, 0.5**2, 0.5]


@pytest.mark.filterwarnings("ignore")
def test_head_is_fitted_and_the_rest_learns_slowly(capsys):
    module = task(saved())
    body = {key: value.clone() for key, value in module.net.body.state_dict().items()}
    callback = trained(module, fit_head=True, layer_decay=0.5)
    said = capsys.readouterr().out
    assert "head fitted on the features of 60 images" in said and "val/accuracy 1." in said
    after = module.net.body.state_dict()
    assert torch.equal(after["1.running_mean"], body["1.running_mean"])  # batch normalisation keeps its statistics
    assert not torch.equal(after["0.weight"], body["0.weight"])
    rates = {rate for rate, _ in parameter_groups(module)}
    assert rates == {1.0} | {0.5**i for i in (3, 2, 1)}
    assert len(module.trainer.optimizers[0].param_groups) == 2 * len(rates)
    assert callback.state_dict()["pretrained"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [OneCycleLR, CyclicLR])
def test_given_highest_rate_falls_with_the_layers_too(kind):
    module = task(saved())
    module.schedule = partial(kind, max_lr=0.1, **({"base_lr": 0.02} if kind is CyclicLR else {}))
    trained(module, steps=1, layer_decay=0.5, fit_head=False)
    rates = [rate for rate, _ in parameter_groups(module)]
    if kind is OneCycleLR:
        highest = [group["max_lr"] for group in module.trainer.optimizers[0].param_groups]
    else:
        highest = module.lr_schedulers().max_lrs
        assert module.lr_schedulers().base_lrs == pytest.approx([0.02 * rate for rate in rates])
    assert highest == pytest.approx([0.1 * rate for rate in rates])


@pytest.mark.filterwarnings("ignore")
def test_head_is_fitted_alike_in_two_runs_and_only_before_the_first_step():
    heads = []
    for _ in range(2):
        module = task(saved())
        module.net.dropout = nn.Dropout(0.5)
        trained(module, steps=1, layer_decay=1.0)
        heads.append(module.net.head.weight.detach().clone())
    assert torch.equal(*heads)


@pytest.mark.filterwarnings("ignore")
def test_head_that_cannot_be_fitted_is_reported_and_learns_at_the_full_rate(capsys):
    module = task(saved())
    module.net.head = nn.Sequential(nn.Linear(5, 3))
    torch.save({f"net.{key}": value for key, value in module.net.state_dict().items()}, "whole.pt")
    load_weights(module.net, "whole.pt", "head")
    trained(module)
    assert "the head is not fitted" in capsys.readouterr().out
    assert "net.body.0.weight" in module.rates and "net.head.0.weight" not in module.rates


@pytest.mark.filterwarnings("ignore")
def test_random_net_is_trained_as_without_the_callback(capsys):
    module, other = task(None), task(None)
    trained(module)
    assert "no pretrained weights" in capsys.readouterr().out
    L.Trainer(max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False).fit(
        other, datamodule=Shades(train=60, val=30, batch_size=8)
    )
    pairs = zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_weights_of_a_run_state_the_images_and_a_hash():
    run = Path("run/checkpoints")
    run.mkdir(parents=True)
    state = {f"net.body.{key}": value for key, value in Net(7).body.state_dict().items()}
    arguments = {"mean": None, "std": None}  # the user gave neither
    data = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "in_channels": 3, "size": (20, 30)}
    content = {"state_dict": state, "datamodule_hyper_parameters": arguments, "Shades": data}
    torch.save(content, run / "best.ckpt")
    weights = read_weights("run")
    assert (weights.mean, weights.std, weights.image_size) == (data["mean"], data["std"], (20, 30))
    net = Net(3, weights="run")
    torch.save(dict(reversed(state.items())), "other.pt")
    assert Net(3, weights="other.pt").body.initial_weights.sha256 == net.body.initial_weights.sha256
    state["net.body.0.bias"] += 1e-6
    torch.save(state, "third.pt")
    assert Net(3, weights="third.pt").body.initial_weights.sha256 != net.body.initial_weights.sha256
    with pytest.raises(UserError, match="no file of weights"):
        read_weights("run/nowhere")
    assert math.isclose(sum(net.body.initial_weights.mean), 0.6)


@pytest.mark.filterwarnings("ignore")
def test_averaged_weights_begin_with_the_fitted_head():
    module, average = task(saved()), EMA(0.5)
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", callbacks=[FineTuning(), average], logger=False, enable_checkpointing=False
    )
    heads = []
    module.on_train_batch_start = lambda *_: heads.append(average._average_model.module.net.head.weight.clone())
    trainer.fit(module, datamodule=Shades(train=60, val=30, batch_size=8))
    assert float(heads[0].abs().max()) > 1  # the initial weights are at most 1 / sqrt(5)


PROCESSES = """
import lightning as L
import torch
from test_finetuning import saved, task
from tiny_task import Shades
from kit.task import Task
from kit.training import FineTuning

module = task("weights.pt")
trainer = L.Trainer(
    max_steps=2, accelerator="cpu", devices=2, strategy="ddp", callbacks=[FineTuning()], logger=False,
    enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False,
)
module.on_train_batch_start = lambda *_: torch.save(module.net.head.weight.detach(), f"{trainer.global_rank}.pt")
trainer.fit(module, datamodule=Shades(train=60, val=30, batch_size=4, num_workers=0))
"""


def test_two_processes_begin_with_the_head_of_one(ranks):
    saved()
    Path("processes.py").write_text(f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\n{PROCESSES}")
    ended = ranks("processes.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("head fitted on the features of 60 images") == 1
    assert torch.equal(torch.load("0.pt"), torch.load("1.pt"))


CHOICES = [  # the validation images, then the validations' accuracies, the first of which is before training
    (200, [0.9, 0.885], 1),  # not much worse, for 200 images
    (200, [0.9, 0.8], 0),
    (10, [0.9, 0.8], 0),  # one image, but a tenth of them
    (10_000, [0.9, 0.88, 0.89], 0),
    (10_000, [0.9, 0.8999, 0.8], 1),
    (200, [0.9, 0.885, 0.88], 1),  # the tolerance is for the head alone
    (10, [0.5, 0.8, 0.8], 2),
]


@pytest.mark.parametrize(("images", "accuracies", "best"), CHOICES)
def test_later_checkpoint_replaces_the_head_unless_it_is_clearly_worse(images, accuracies, best):
    checkpoint, kept = Checkpoint("val/accuracy", "max"), 0
    measured = SimpleNamespace(score_name="accuracy")
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool), global_step=0)
    trainer.lightning_module = Task()
    trainer.lightning_module.latest_evaluation = measured
    checkpoint.mode = checkpoint._arguments[1]
    checkpoint.monitor = "val/accuracy"
    for step, accuracy in enumerate(accuracies):
        right = (torch.arange(images) < round(accuracy * images)).double()
        measured.score_terms = lambda right=right: torch.stack([right, torch.ones_like(right)], 1)[..., None]
        trainer.global_step = step
        if checkpoint.check_monitor_top_k(trainer, torch.tensor(accuracy)):
            kept = step
            checkpoint.best_k_models = {"best.ckpt": torch.tensor(accuracy)}
            checkpoint.kth_best_model_path, checkpoint.kth_value = "best.ckpt", torch.tensor(accuracy)
    assert kept == best
