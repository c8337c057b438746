"""Store the arguments of the net and the hash of its pretrained weights in the config of a run."""

from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.data import ImageDataModule
from kit.safeguards.resume import restarting
from kit.training.weights import find_loaded_weights

MAX_LAYERS = 3  # the largest number of layers without pretrained weights that the printed line names


def save_arguments(model: L.LightningModule, config: Namespace) -> None:
    """Store a net's `saved_arguments` in the hyper-parameters of its model and in the config of the run.

    A net has this attribute, a dict, if its arguments name something on the internet, such as a model on the Hugging
    Face hub. With the arguments in the dict, the net can be built again offline.
    """
    net, net_config = getattr(model, "net", None), model.hparams.get("net")  # a plain LightningModule may have neither
    for key, value in getattr(net, "saved_arguments", {}).items() if isinstance(net_config, dict) else ():
        config[f"{restarting.NET}.{key}"] = value
        net_config["init_args"][key] = value


def use_start(model: L.LightningModule, data: Any, config: Namespace, resumed: bool, force: bool) -> None:
    """Print the weights that a model starts from, and match the data module to them.

    Args:
        model: the model.
        data: the data module, or None.
        config: the config of the run. It gets the hash of the weights and the new arguments of the data module.
        resumed: whether the run is resumed. Its pretrained weights must then have the hash in the config.
        force: whether a resumed run may start from other weights.

    Raises:
        UserError: see `restarting.refuse`.
    """
    start_prefix, start = find_loaded_weights(model) or ("", None)
    if start is None:
        if not resumed:  # the config may be a copy from a run with pretrained weights
            config.weights_source = config.weights_sha256 = None
        return
    if resumed and config.weights_sha256 not in (None, start.sha256):
        restarting.refuse("weights", [f"the hash of {start.source} has changed"], force)
    source = f"{start.source} ({start.licence or 'no licence stated'})"
    config.weights_source, config.weights_sha256 = source, start.sha256
    is_ours = isinstance(data, ImageDataModule)
    new_arguments = data.use_preprocessing_of_weights(start.mean, start.std, start.image_size) if is_ours else {}
    for key, value in new_arguments.items():
        config[f"data.init_args.{key}"] = value
    net_prefix = f"{start_prefix.partition('.')[0]}." if start_prefix else ""  # such as `net.`
    names = [name for name in model.state_dict() if name.startswith(net_prefix)]
    loaded = {f"{start_prefix}{name}" for name in start.tensors}
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names if name not in loaded))
    exceptions = f", all but {', '.join(layers[:MAX_LAYERS])}{', ...' * (len(layers) > MAX_LAYERS)}" if layers else ""
    settings = "".join(f"; data.{key} {value}" for key, value in new_arguments.items())
    rank_zero_only(print)(f"weights: {source}, {len(loaded)} of {len(names)} tensors{exceptions}{settings}")
