"""Report a bad step in one line on the console and in TensorBoard, and in a JSON file in the run folder."""

import json
import math
import warnings
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn

from kit.data import Batch, ImageDataModule
from kit.ground._lightning import data_module
from kit.ground._torch import tree_leaves
from kit.ground.errors import one_line
from kit.ground.files import write_text
from kit.ground.terminal import escape
from kit.safeguards.messages import log_message

MAX_REPORTS = 5  # the largest number of reports in a run
MAX_PRINTED = 3  # the largest number of files and of parameters in the printed line; the JSON file has all of them


class Reporter:
    """Print and write the reports of a run.

    Attributes:
        count: the number of reports so far.
        last: the text of the last report; before the first report of this process, where to find reports.
    """

    def __init__(self) -> None:
        self.count, self.last = 0, "see nan_guard_*.json in the run folder"

    def report(self, problem: str, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> None:
        """Find the cause of a bad step, print it and write it to a file. All processes must call this.

        After `MAX_REPORTS` reports, do nothing.

        Args:
            problem: the symptom, such as "the loss is not finite".
            batch: a batch of the step, the bad one if it is known.
            index: the index of the batch in its epoch.
        """
        if self.count == MAX_REPORTS:
            return
        self.count += 1
        facts = {"what": problem, "epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        facts_here = examine(trainer, pl_module, batch) | rerun(trainer, pl_module, batch, index)
        facts |= _facts_of_worst_process({"batch": index, **facts_here})
        facts["try"] = suggestions(facts)
        # All processes must read `log_dir`, since Lightning broadcasts it.
        file = Path(trainer.log_dir or trainer.default_root_dir, f"nan_guard_{self.count}.json")
        self.last = f"{summary(facts)}; details are in {file}"
        log_message(trainer, "nan_guard", f"nan_guard: {self.last}")
        if trainer.is_global_zero:
            write_text(file, json.dumps(facts, indent=2) + "\n")


def is_finite(tree: Any) -> bool:
    """Return whether all floating-point tensors in nested containers are finite."""
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def examine(trainer: L.Trainer, pl_module: L.LightningModule, batch: Any) -> dict[str, Any]:
    """Return facts about a bad step in this process, as values for JSON. No forward pass is needed.

    `highest_rate` is the highest initial learning rate of all parameter groups. `rate_flag` is the option that sets the
    learning rate, or None if the module has no such option.
    """
    parameters = dict(pl_module.named_parameters())
    groups = trainer.optimizers[0].param_groups
    return {
        "rank": trainer.global_rank,
        "files": _files(trainer, batch),
        "input_finite": is_finite(batch),
        "weights_not_finite": [name for name, p in parameters.items() if not is_finite(p)],
        "gradients_not_finite": [name for name, p in parameters.items() if not is_finite(p.grad)],
        "precision": str(trainer.precision),
        "highest_rate": max(float(group.get("initial_lr", group["lr"])) for group in groups),
        "rate_flag": "--model.optimizer.lr" if "optimizer" in pl_module.hparams else None,
    }


def rerun(trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> dict[str, Any]:
    """Repeat the forward pass of a batch on a copy of the model, and check the output of each module.

    The weights have not changed since the bad step. Dropout and other random layers draw new numbers. An exception in
    this pass does not end the run.

    Returns:
        a dict with these keys:
        loss: the loss, as a string if it is not finite; None if the pass failed.
        module: the first module whose output is not finite, such as `net.head (Linear)`, or None.
        rerun_error: the message of an exception in this pass, or None.
    """
    facts: dict[str, Any] = {"loss": None, "module": None, "rerun_error": None}

    def check_output(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if facts["module"] is None and not is_finite(output):  # an inner module calls this before the one around it
            facts["module"] = f"{name} ({type(module).__name__})"

    try:
        model: Any = TorchSyncBatchNorm().revert(deepcopy(pl_module))
        # Remove the methods that the memory guard has set on the instance: they would call the original model.
        for name in [name for name in vars(model) if callable(getattr(type(model), name, None))]:
            delattr(model, name)
        model.trainer = trainer
        model.log = model.log_dict = lambda *args, **kwargs: None
        for name, module in model.named_modules():
            if module is not model:
                module.register_forward_hook(partial(check_output, name))
        arguments = [batch, index][: 1 + is_param_in_hook_signature(model.training_step, "batch_idx", min_args=2)]
        with isolate_rng(), warnings.catch_warnings(action="ignore"), trainer.precision_plugin.train_step_context():
            output = model.training_step(*arguments)
        loss = (output["loss"] if isinstance(output, Mapping) else output).item()
        facts["loss"] = loss if math.isfinite(loss) else str(loss)
    except Exception as error:
        facts["rerun_error"] = one_line(error)
    return facts


def _facts_of_worst_process(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the process that shows the cause best. All processes get the same facts.

    A process whose input is not finite is preferred. If there is none, a process in which a module's output is not
    finite is preferred, and then a process in which the loss is not finite.
    """
    all_facts = [facts]
    if torch.distributed.is_initialized():
        all_facts *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(all_facts, facts)
    return max(all_facts, key=lambda f: (not f["input_finite"], bool(f["module"]), isinstance(f["loss"], str)))


def _files(trainer: L.Trainer, batch: Any) -> list[str]:
    """Return the files of the batch's images that are not finite or, if all are finite, of all its images.

    Return [] if the files are unknown, since the batch is not a `Batch` or its data module not an `ImageDataModule`.
    """
    datamodule = data_module(trainer)
    if not isinstance(batch, Batch) or not isinstance(datamodule, ImageDataModule):
        return []
    is_bad = ~batch.images.flatten(1).isfinite().all(1)
    return datamodule.files((batch.keys[is_bad] if is_bad.any() else batch.keys).cpu(), "train")


def suggestions(facts: dict[str, Any]) -> list[str]:
    """Return suggestions for the user, with the most likely one first."""
    lower_rate = f"a lower learning rate (the highest is {facts['highest_rate']:g})"
    if facts["rate_flag"]:
        lower_rate += f": {facts['rate_flag']} {facts['highest_rate'] / 10:g}"
    causes = (
        (not facts["input_finite"], "look at this input, and at the result of data.augment"),
        (facts["weights_not_finite"], lower_rate),
        (facts["precision"].startswith(("16", "transformer")), "--trainer.precision bf16-mixed: fp16's limit is 65504"),
        (facts["module"], lower_rate),
        (isinstance(facts["loss"], str), "check the loss: a logarithm of 0, or a division by 0"),
    )
    first = next((suggestion for applies, suggestion in causes if applies), lower_rate)
    trace = "--trainer.detect_anomaly true, which is slow, but stops at the line of code that made the NaN"
    return list(dict.fromkeys([first, lower_rate, trace]))


def summary(facts: dict[str, Any]) -> str:
    """Return the most important facts in one line."""
    files = facts["files"]
    more = f" and {len(files) - MAX_PRINTED} more" if len(files) > MAX_PRINTED else ""
    source = ", ".join(map(escape, files[:MAX_PRINTED])) + more if files else f"batch {facts['batch']} of the epoch"
    culprits = (
        ("weights not finite", facts["weights_not_finite"]),
        ("first module whose output is not finite", [facts["module"]] if facts["module"] else []),
        ("gradients not finite", facts["gradients_not_finite"]),
    )
    culprit = next((f"; {label}: {', '.join(names[:MAX_PRINTED])}" for label, names in culprits if names), "")
    details = ("input finite" if facts["input_finite"] else "input not finite") + culprit
    when = f"epoch {facts['epoch']} step {facts['step']}"
    return f"{when}: {facts['what']}, in {source} ({details}); try: {facts['try'][0]}"
