"""What is known of a bad step: found out by repeating it."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from kit.safeguards.nan_replay import Step, finite, replay

LARGEST = 5  # gradients that are named
FOUND_OUT = ("batch", "input_finite", "loss", "module", "given_finite", "backward", "not_repeated", "gradients")


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
