"""Classifiers of torchvision and timm: Float[B C H W] to logits Float[B K]."""

from typing import Any

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from kit.ground.errors import UserError, did_you_mean
from kit.training.weights import initialise_head, load_weights, swap_first_convolution


class TorchvisionNet(nn.Module):
    """Any classification network of torchvision, by its name there (`resnet18`), with a head for our classes.

    Args:
        pretrained: start from torchvision's default weights, downloaded once.
        weights: start from a file of weights instead: a state dict of this network, with any number of classes.
        stochastic_depth: how often the last block is skipped in training, earlier ones less (Huang et al. 2016); by
            default as torchvision has it for this network. For EfficientNets, ConvNeXts, Swins and MaxViT.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        pretrained: bool = False,
        weights: str | None = None,
        stochastic_depth: float | None = None,
    ) -> None:
        super().__init__()
        from torchvision import models

        known = models.list_models(module=models)
        if name not in known:
            raise UserError(f"torchvision has no classification model '{name}'{did_you_mean(name, known)}")
        self.net = models.get_model(name, weights=None, **_fixed_options(name))
        if stochastic_depth is not None:
            _set_stochastic_depth(self.net, name, stochastic_depth)
        swap_first_convolution(self.net, in_channels)
        self._head = _swap_head(self.net, num_classes)
        if weights:
            load_weights(self.net, weights, self._head)
        elif pretrained:
            load_weights(self.net, models.get_model(name, weights="DEFAULT").state_dict(), self._head)

    @property
    def head(self) -> nn.Module:
        return self.net.get_submodule(self._head)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class TimmNet(nn.Module):
    """Any model of timm, by its name there. Needs the extra `zoo`. For the other arguments see `TorchvisionNet`.

    Args:
        drop_rate: dropout before the head.
        drop_path_rate: as `stochastic_depth` of `TorchvisionNet`, of the models that have it.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        pretrained: bool = False,
        weights: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UserError("TimmNet needs timm: pip install -e '.[zoo]'") from None
        known = [*timm.list_models(), *timm.list_pretrained()]  # NAME, and NAME.WEIGHTS
        if name not in known:
            raise UserError(f"timm has no model '{name}'{did_you_mean(name, known)}")
        try:
            self.net = timm.create_model(
                name,
                num_classes=num_classes,
                in_chans=in_channels,
                drop_rate=drop_rate,
                drop_path_rate=drop_path_rate or None,  # None is not handed on
            )
        except TypeError as error:
            if "drop_path_rate" not in str(error):
                raise
            raise UserError(f"timm's {name} has no stochastic depth: leave model.net.drop_path_rate at 0") from None
        initialise_head(self.head)  # timm draws some heads from +-1/sqrt(K): the first loss of two classes would be 11
        head = self.net.default_cfg["classifier"]
        if weights:
            load_weights(self.net, weights, head)
        elif pretrained:
            try:
                source = timm.create_model(name, pretrained=True, in_chans=in_channels)
            except RuntimeError as error:
                if "pretrained" not in str(error):
                    raise
                raise UserError(f"timm has no weights for {name}: leave model.net.pretrained at false") from None
            load_weights(self.net, source.state_dict(), head)

    @property
    def head(self) -> nn.Module:
        classifier = self.net.get_classifier()
        return nn.ModuleList(classifier) if isinstance(classifier, tuple) else classifier  # distilled nets have two

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


def _fixed_options(name: str) -> dict[str, Any]:
    """Return options of a torchvision net that torchvision itself sets only if it loads weights.

    A checkpoint holds tensors, but not where they came from. So a net must be the same with and without weights.
    """
    if name in ("googlenet", "inception_v3"):
        # With auxiliary heads, the output in training would be a tuple. The weights expect a transformed input.
        return {"aux_logits": False, "transform_input": True, "init_weights": True}
    if name.startswith("vit_"):  # it has as many positions as the image size of its weights needs
        from torchvision import models

        return {"image_size": models.get_model_weights(name).DEFAULT.meta["min_size"][0]}
    return {}


def _set_stochastic_depth(net: nn.Module, name: str, last: float) -> None:
    layers = [module for module in net.modules() if isinstance(module, StochasticDepth)]
    if not layers:
        raise UserError(f"torchvision's {name} has no stochastic depth: leave model.net.stochastic_depth at null")
    for place, layer in enumerate(layers):
        layer.p = last * (place + 1) / len(layers)


def _swap_head(net: nn.Module, num_classes: int) -> str:
    """Replaces the layer that gives the classes, and returns its name."""
    name, old = [(n, m) for n, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes)
    else:  # SqueezeNet ends with a 1x1 convolution
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size)
    net.set_submodule(name, new)
    return name
