"""Classifiers of torchvision and timm: Float[B C H W] to logits Float[B K]."""

from typing import Any

from torch import Tensor, nn
from torchvision import models

from kit.ground.errors import UserError, one_line
from kit.training.weights import downloading, initialise_head, load_weights, swap_first_convolution
from kit.zoo.loading import load_pretrained, require_known, torchvision_model


class TorchvisionNet(nn.Module):
    """A classification net of torchvision by its name (`resnet18`), with a head for K classes.

    Args:
        num_classes: K.
        in_channels: C.
        name: the name of the net in torchvision.
        pretrained: start from the default weights of torchvision, which are downloaded once.
        weights: start from this file instead, a state dict of the same net with any number of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.net = torchvision_model(name, models, **_fixed_options(name))
        swap_first_convolution(self.net, in_channels)
        self._head, old = [(n, m) for n, m in self.net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
        if isinstance(old, nn.Linear):
            new: nn.Module = nn.Linear(old.in_features, num_classes)
        else:  # SqueezeNet ends with a 1x1 convolution
            new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size)
        self.net.set_submodule(self._head, new)
        load_pretrained(self.net, name, weights, pretrained, (self._head,))

    @property
    def head(self) -> nn.Module:
        return self.net.get_submodule(self._head)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


def _fixed_options(name: str) -> dict[str, Any]:
    """Return options that torchvision sets only if it loads weights.

    A checkpoint is loaded into a net that was built without weights, so the net must not depend on them.
    """
    # Auxiliary heads would make the output in training a tuple. The weights expect a transformed input.
    is_inception = name in ("googlenet", "inception_v3")
    return {"aux_logits": False, "transform_input": True, "init_weights": True} if is_inception else {}


class TimmNet(nn.Module):
    """A model of timm by its name. It needs the extra `zoo`. `TorchvisionNet` describes the other arguments.

    Args:
        drop_rate: the dropout before the head.
        drop_path_rate: the probability of skipping the last block in training; earlier blocks have lower ones
            (stochastic depth, Huang et al. 2016). Some models do not support it.
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
        require_known(name, [*timm.list_models(), *timm.list_pretrained()], "timm has no model")  # NAME, NAME.WEIGHTS
        if pretrained and not weights and not timm.is_model_pretrained(name):
            raise UserError(f"timm has no weights for {name}: leave model.net.pretrained at false")
        options = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate or None}  # timm drops None
        try:
            self.net = timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **options)
        except TypeError as error:  # an option that the model does not have
            raise UserError(f"timm's {name}: {one_line(error)}; leave model.net.drop_path_rate at 0") from None
        initialise_head(self.head)  # timm's own can be so large that the first loss is 11
        if weights or pretrained:
            with downloading(name):
                source = weights or timm.create_model(name, pretrained=True, in_chans=in_channels).state_dict()
            load_weights(self.net, source, self.net.default_cfg["classifier"])

    @property
    def head(self) -> nn.Module:
        classifier = self.net.get_classifier()
        return nn.ModuleList(classifier) if isinstance(classifier, tuple) else classifier  # distilled nets have two

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)
