"""Create nets of transformers from their configurations, and load their initial weights."""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from kit.ground._transformers import use_local_box_counts
from kit.ground.errors import UserError, import_extra, one_line
from kit.training.weights import NotDownloaded, Weights, load_weights, read_weights, swap_first_convolution
from kit.zoo.loading import Pretrained, downloading_from_hub

# Earlier releases of transformers add the loss of the denoising queries to the main loss of D-FINE and RT-DETR:
# https://github.com/huggingface/transformers/pull/48528
MIN_VERSION = (5, 18)
# Keys that are removed from a configuration: the names of its classes, and options that could run code from the hub.
REMOVED_KEYS = ("id2label", "label2id", "num_labels", "auto_map", "attn_implementation", "quantization_config")
# The ends of the names of parameters that get no gradient. DDP would wait for their gradients.
UNUSED = ("mask_token", "swin.layernorm.weight", "swin.layernorm.bias")


def read_config(name: str) -> dict[str, Any]:
    """Return the configuration of a net of transformers.

    Args:
        name: a folder with a config.json, or the name of a net on the Hugging Face hub, from which it is downloaded.

    Raises:
        UserError: transformers is not installed or too old.
        NotDownloaded: there is no such configuration, or no network connection.
    """
    transformers = _transformers()
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(name)
    except OSError as error:
        expected = "neither a folder with a config.json nor a name on the Hugging Face hub"
        raise NotDownloaded(f"model.net.name {name} is {expected} ({one_line(error)})") from None
    return _plain(config)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without `REMOVED_KEYS`, also in nested configurations."""
    pairs = ((key, value) for key, value in config.items() if key not in REMOVED_KEYS)
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in pairs}


def create_model(
    kind: str, supported: Collection[str], config: dict[str, Any], num_classes: int, in_channels: int
) -> Any:
    """Return a net of transformers with random weights.

    Args:
        kind: the name of a class of transformers, such as `AutoModelForObjectDetection`.
        supported: the supported values of the configuration's `model_type`.
        config: the result of `read_config`.
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
    """
    transformers = _transformers()
    if (model_type := config.get("model_type")) not in supported:
        known = ", ".join(supported)
        raise UserError(f"model.net has the model type {model_type}, which is not supported (supported: {known})")
    values = _plain(config)
    # With these sizes, a net computes anchors and position embeddings once, for evaluation images of this size only.
    values |= {key: None for key in ("anchor_image_size", "eval_size") if key in values}
    net_config = transformers.AutoConfig.for_model(**values, num_labels=num_classes)
    (getattr(net_config, "backbone_config", None) or net_config).num_channels = in_channels
    use_local_box_counts()
    # Attention is computed by PyTorch alone, since a configuration could name code on the hub.
    net = getattr(transformers, kind).from_config(net_config, attn_implementation="eager", dtype=torch.float32)
    swap_first_convolution(net, in_channels)  # some nets do not read `num_channels`
    for name, parameter in net.named_parameters():
        if name.endswith(UNUSED):
            parameter.requires_grad_(False)
    return net


def load_pretrained(
    net: nn.Module, kind: str, name: str, weights: str | None, pretrained: Pretrained, head: tuple[str, ...]
) -> None:
    """Load weights into a net of `create_model`: from a file or a run, or else the weights of `name`, or none.

    Args:
        net: the net, whose head may be for other classes than the weights.
        kind: see `create_model`.
        name: the folder of the weights, or their name on the hub.
        weights: a file or a run with weights, or None.
        pretrained: whether to load the weights of `name` if no file is given.
        head: parts of the names of the head's tensors, which may have other shapes than in the weights.
    """
    if not weights and not pretrained:
        return
    if weights:
        source = read_weights(weights)
    else:
        with downloading_from_hub(name):
            source = Weights(getattr(_transformers(), kind).from_pretrained(name).state_dict(), name)
            source = source.with_defaults(*_normalisation(name))
    load_weights(net, source, tuple(key for key in net.state_dict() if any(part in key for part in head)))


def _normalisation(name: str) -> tuple[list[float] | None, list[float] | None]:
    """Return the mean and std in the preprocessor_config.json of a net's weights, or None if it does not state them."""
    try:
        values, _ = _transformers().BaseImageProcessor.get_image_processor_dict(name)
    except OSError:
        return None, None
    if values.get("do_normalize", True):  # most image processors normalise by default
        return values.get("image_mean"), values.get("image_std")
    return [0.0], [1.0]


def _transformers() -> Any:
    transformers = import_extra("transformers", "this net", "transformers")
    if tuple(map(int, transformers.__version__.split(".")[:2])) < MIN_VERSION:
        raise UserError(f"transformers {transformers.__version__} is too old: pip install -e '.[transformers]'")
    return transformers
