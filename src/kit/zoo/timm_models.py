"""Create nets of timm by their names."""

from types import ModuleType
from typing import Any

from kit.ground.errors import UserError
from kit.zoo.loading import require_known

VITS = ("vision_transformer", "deit", "eva")  # modules of timm whose nets can resize their position embeddings


def create_model(name: str, pretrained: bool = False, **options: Any) -> Any:
    """Return a net of timm. Vision transformers, such as DINOv2 and DINOv3, take images of any size.

    The position embeddings of a vision transformer are resized to the images, which are padded to whole patches.

    Args:
        name: the name of the net in timm.
        pretrained: load timm's weights, which are downloaded once.
        options: further arguments of `timm.create_model`.

    Raises:
        UserError: timm is not installed, has no such net, or has no weights of it.
    """
    timm = _timm_with(name)
    if pretrained and not timm.is_model_pretrained(name):
        raise UserError(f"timm has no weights for {name}: leave model.net.pretrained at false")
    if is_vit(name):
        options |= {"dynamic_img_size": True, "dynamic_img_pad": True}
    return timm.create_model(name, pretrained=pretrained, **options)


def is_vit(name: str) -> bool:
    """Return whether a net of timm is a vision transformer whose position embeddings can be resized."""
    return _timm_with(name).model_entrypoint(name).__module__.removeprefix("timm.models.") in VITS


def one_size_only(name: str) -> bool:
    """Return whether a net of timm takes only images of the size for which it was built."""
    return _timm_with(name).get_pretrained_cfg(name).fixed_input_size and not is_vit(name)


def _timm_with(name: str) -> ModuleType:
    """Return timm if it has a net of this name."""
    try:
        import timm
    except ImportError:
        raise UserError(f"{name} needs timm: pip install -e '.[zoo]'") from None
    # The first list has names of models, the second has names such as MODEL.WEIGHTS.
    require_known(name, [*timm.list_models(), *timm.list_pretrained()], "timm has no model")
    return timm
