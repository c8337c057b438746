"""Store in a run's config what its net needs to be built again, and which weights it starts from."""

from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.data import ImageDataModule
from kit.safeguards.resume import restarting
from kit.training.weights import find_start


def save_arguments(model: L.LightningModule, config: Namespace) -> None:
    """Store a net's `saved_arguments` in the hyper-parameters of its model and in the config of the run.

    A net has this attribute, a dict, if its arguments name something on the network. With the arguments in the dict, it
    can be built again without a network connection.
    """
    built, saved = getattr(model, "net", None), model.hparams.get("net")  # a plain LightningModule may have neither
    for key, value in getattr(built, "saved_arguments", {}).items() if isinstance(saved, dict) else ():
        config[f"{restarting.NET}.{key}"] = value
        saved["init_args"][key] = value


def use_start(model: L.LightningModule, data: Any, config: Namespace, must_be_same: bool) -> None:
    """Print the weights that a model starts from, match the data module to them, and store both in the run's config.

    Args:
        model: the model.
        data: the data module, or None.
        config: the config of the run. It gets the hash of the weights and the new arguments of the data module.
        must_be_same: whether the config has the hash of the weights that are required.

    Raises:
        UserError: other weights are required.
    """
    part, start = find_start(model) or ("", None)
    if start is None:
        return
    if must_be_same:
        restarting.refuse_other_weights(config.weights_sha256, start)
    config.weights_sha256 = start.sha256
    matched = {}
    if isinstance(data, ImageDataModule):
        matched = data.match_weights(start.mean, start.std, start.image_size)
    for key, value in matched.items():
        config[f"data.init_args.{key}"] = value
    total = len([name for name in model.state_dict() if name.startswith("net.")])
    settings = "".join(f"; data.{key} {value}" for key, value in matched.items())
    loaded = f"{len(start.tensors)} of {total} tensors, {part.rstrip('.')}"
    rank_zero_only(print)(f"weights: {start.source} ({start.licence or 'no licence stated'}), {loaded}{settings}")
