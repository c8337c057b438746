"""Why a step was bad: one line on the console, JSON in the run folder, text in TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kit.ground.files import replacing
from kit.ground.terminal import escape
from kit.safeguards.messages import show
from kit.safeguards.nan.replay import Step, finite, replay

LARGEST = 5  # gradients that are named
FOUND_OUT = ("batch", "input_finite", "loss", "module", "given_finite", "backward", "not_repeated", "gradients")
MOST = 5  # reports of a run; what is bad after that is only counted
NAMED = 3  # files in the line on the console; the JSON has all of them
PHRASES = {
    "loss": "the loss is not finite",
    "gradient": "a gradient is not finite",
    "runaway": "the loss has been far above its median for long",
}

# Parts of the names of operations whose derivative is infinite, or no number, at the edge of where they are defined.
EDGES = ("Sqrt", "Pow", "Norm", "Div", "Log", "Acos", "Asin", "Atan2", "Std", "Var", "Cdist", "Reciprocal", "Xlogy")


class Reporter:
    """Says what is wrong with the first step of each streak.

    Attributes:
        last: what was said last.
    """

    def __init__(self) -> None:
        self.count, self.last = 0, ""

    def report(
        self, what: str, trainer: L.Trainer, pl_module: L.LightningModule, steps: list[Step], has_gradients: bool
    ) -> None:
        """
        Args:
            what: one of `PHRASES`.
            steps: the batch, or the batches whose gradients were added up.
            has_gradients: whether the parameters still have that step's.
        """
        if self.count == MOST:
            return
        self.count += 1
        named = pl_module.named_parameters() if has_gradients else ()
        gradients = {name: weight.grad for name, weight in named if weight.grad is not None}
        facts = examine(trainer, pl_module, steps, gradients)
        facts["try"] = advice(what, facts)
        self.last = line(what, facts)
        file = self.file(trainer)
        if trainer.is_global_zero:
            print(f"nan_guard: {self.last}; all of it is in {file}", flush=True)
            _save({"what": PHRASES[what], **facts}, file)
            _show(trainer, self.last, facts)

    def file(self, trainer: L.Trainer) -> Path:
        """The latest report's. The folder is the first process's, which all have to ask."""
        return Path(trainer.log_dir or trainer.default_root_dir, f"nan_guard_{self.count}.json")

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.last = state["count"], state["last"]


def examine(
    trainer: L.Trainer, pl_module: L.LightningModule, steps: list[Step], gradients: dict[str, Tensor]
) -> dict[str, Any]:
    """What is known of a bad step, as plain values; of the process on which most was found, the same on all.

    Args:
        steps: the batch, or the batches whose gradients were added up.
        gradients: as they were then, if they are still there.
    """
    facts: dict[str, Any] = dict.fromkeys(FOUND_OUT) | {"found": False, "rank": trainer.global_rank, "files": []}
    for step in steps:
        seen = replay(trainer, pl_module, step)
        if facts["found"]:  # by an earlier batch; all are repeated, so that all processes do the same
            continue
        good = finite([step.batch, seen.gradients]) and not seen.module and not seen.operation
        facts["found"] = not good or (seen.loss is not None and not math.isfinite(seen.loss))
        facts |= {"batch": step.batch_idx, "files": _files(trainer, step.batch)}
        facts |= {"input_finite": finite(step.batch), "loss": seen.loss, "module": seen.module}
        facts |= {"given_finite": seen.given, "backward": seen.operation, "not_repeated": seen.error}
        facts["gradients"] = _largest(gradients or seen.gradients or {})
    if not facts["found"] and len(steps) < trainer.accumulate_grad_batches:
        facts["not_repeated"] = "it may have been an earlier one of the batches whose gradients are added up"
    weights = dict(pl_module.named_parameters())
    facts["weights_not_finite"] = [name for name, weight in weights.items() if not finite(weight)][:LARGEST]
    groups = trainer.optimizers[0].param_groups
    facts["learning_rate"] = max(float(group["lr"]) for group in groups)
    facts["highest_rate"] = max(float(group.get("initial_lr", group["lr"])) for group in groups)
    facts["rate_flag"] = "--model.optimizer.lr" if "optimizer" in pl_module.hparams else None
    facts["precision"], facts["clipped"] = str(trainer.precision), bool(trainer.gradient_clip_val)
    facts |= {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
    return _of_all_processes(facts, trainer.world_size)


def _of_all_processes(facts: dict[str, Any], processes: int) -> dict[str, Any]:
    if processes == 1:
        return facts
    gathered: list[Any] = [None] * processes
    torch.distributed.all_gather_object(gathered, facts)
    return next((some for some in gathered if some["found"]), gathered[0])


def _files(trainer: L.Trainer, batch: Any) -> list[str]:
    """Of the samples whose image is not finite, or else of all; nothing where nobody knows their files."""
    keys, images = getattr(batch, "keys", None), getattr(batch, "images", None)
    named = getattr(getattr(trainer, "datamodule", None), "files", None)
    if not isinstance(keys, Tensor) or named is None:
        return []
    if isinstance(images, Tensor) and not finite(images):
        keys = keys[~images.flatten(1).isfinite().all(1)]
    return named(keys.cpu(), "train")


def _largest(gradients: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Those that are not finite first, then by their largest entry."""
    rows: list[dict[str, Any]] = []
    for name, gradient in gradients.items():
        finite_part = gradient.detach().float().nan_to_num(0.0, 0.0, 0.0)
        counts = {"nan": int(gradient.isnan().sum()), "inf": int(gradient.isinf().sum())}
        rows.append({"name": name, "largest": float(finite_part.abs().max()), **counts})
    return sorted(rows, key=lambda row: (row["nan"] + row["inf"] == 0, -row["largest"]))[:LARGEST]


def advice(what: str, facts: dict[str, Any]) -> list[str]:
    """What to try, the likeliest first."""
    rate = f"a lower learning rate (the highest is {facts['highest_rate']:g})"
    if facts["rate_flag"]:
        rate += f": {facts['rate_flag']} {facts['highest_rate'] / 10:g}"
    said = []
    if facts["input_finite"] is False:
        said.append("look at these files, and at what data.augment makes of them: the input itself is not finite")
    elif facts["weights_not_finite"] or what == "runaway":
        said.append(rate)
    elif facts["precision"].startswith("16") or facts["precision"].startswith("transformer"):
        said.append("--trainer.precision bf16-mixed: numbers above 65504 do not fit into 16 bits")
    elif facts["backward"] and any(edge in facts["backward"] for edge in EDGES):
        said.append(f"keep what {facts['backward'].removesuffix('Backward0')} gets away from the edge: add 1e-6 to it")
    elif facts["loss"] is not None and not math.isfinite(facts["loss"]) and not facts["module"]:
        said.append("the loss itself: a logarithm of 0, or a division by a number of targets that may be 0")
    elif not facts["found"] and not facts["not_repeated"]:
        said.append("nothing, if it stays alone: repeated, the step was good, so it came from outside of it")
    if rate not in said:
        said.append(rate)
    if not facts["clipped"]:
        said.append("--trainer.gradient_clip_val 1")
    return [*said, "--trainer.detect_anomaly true, slow, stops at the line of code that made the NaN"]


def line(what: str, facts: dict[str, Any]) -> str:
    """All that matters most."""
    files = facts["files"]
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    where = f"in {', '.join(map(escape, files[:NAMED]))}{more}" if files else f"in batch {facts['batch']} of the epoch"
    seen = ["input not finite" if facts["input_finite"] is False else "input finite"]
    if facts["weights_not_finite"]:
        seen.append(f"weights not finite: {', '.join(facts['weights_not_finite'][:NAMED])}")
    if facts["module"]:
        seen.append(f"first output that is not: {facts['module']}")
    if facts["backward"]:
        seen.append(f"backward failed in {facts['backward']}")
    elif facts["gradients"] and not facts["module"] and what != "runaway":
        seen.append(f"largest gradient: {facts['gradients'][0]['name']}")
    when = f"epoch {facts['epoch']} step {facts['step']}"
    return f"{when}: {PHRASES[what]}, {where} ({'; '.join(seen)}); try {facts['try'][0]}"


def _save(facts: dict[str, Any], file: Path) -> None:
    with replacing(file) as part:
        part.write_text(json.dumps(_plain(facts), indent=2, allow_nan=False) + "\n")


def _show(trainer: L.Trainer, said: str, facts: dict[str, Any]) -> None:
    rows = [f"| {key} | {value} |" for key, value in _plain(facts).items()]
    show(trainer, "nan_guard", "\n".join([said, "", "| what | is |", "| --- | --- |", *rows]))


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: as words."""
    loss, rates = facts["loss"], {key: facts[key] for key in ("learning_rate", "highest_rate")}
    numbers = {"loss": loss, **rates}
    return facts | {key: str(n) if n is not None and not math.isfinite(n) else n for key, n in numbers.items()}
