"""Classifiers of torchvision and timm. They map images Float[B C H W] to logits Float[B K]."""

from torch import Tensor, nn
from torchvision import models

from kit.ground.ranges import ShareBelowOne
from kit.training.weights import initialise_head, load_weights, read_weights
from kit.zoo.loading import Pretrained, load_pretrained, torchvision_model
from kit.zoo.timm_models import create_model, weights_info


class TorchvisionNet(nn.Module):
    """A classification net of torchvision by its name (`resnet18`), with a head for K classes.

    Args:
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
        name: the name of the net in torchvision.
        pretrained: `auto` or True to start from the default weights of torchvision, which are downloaded once.
        weights: start from the weights in this file or run instead. They are for the same net, with any number of
            classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        pretrained: Pretrained = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        # These options have another default in torchvision if pretrained weights are loaded. They are fixed, so that a
        # checkpoint of a pretrained net fits a net that is built without pretrained weights. Auxiliary heads would make
        # the output in training a tuple. The pretrained weights expect a transformed input.
        inception_options = {"aux_logits": False, "transform_input": True, "init_weights": True}
        options = inception_options if name in ("googlenet", "inception_v3") else {}
        self.net = torchvision_model(name, models, in_channels, **options)
        layers = {path: m for path, m in self.net.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
        self._head_name, layer = list(layers.items())[-1]  # SqueezeNet ends with a 1x1 convolution
        is_linear = isinstance(layer, nn.Linear)
        head = nn.Linear(layer.in_features, num_classes) if is_linear else nn.Conv2d(layer.in_channels, num_classes, 1)
        self.net.set_submodule(self._head_name, head)
        load_pretrained(self.net, name, weights, pretrained, (self._head_name,), self.net)

    @property
    def head(self) -> nn.Module:
        return self.net.get_submodule(self._head_name)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class TimmNet(nn.Module):
    """A model of timm by its name. It needs the pip extra `zoo`. `TorchvisionNet` describes the other arguments.

    Vision transformers, such as `vit_small_patch14_dinov2` and `vit_small_patch16_dinov3`, take images of any size. The
    pretrained weights of `tf_efficientnet_lite0` are also in the pip extra `weights`.

    Args:
        drop_rate: the probability of dropout before the head.
        drop_path_rate: the probability of skipping the last block in training (stochastic depth, Huang et al. 2016).
            Earlier blocks have lower probabilities. Some models do not support this.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        pretrained: Pretrained = False,
        weights: str | None = None,
        drop_rate: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        # timm ignores an option whose value is None.
        options = {"in_chans": in_channels, "drop_rate": drop_rate, "drop_path_rate": drop_path_rate or None}
        self.net = create_model(name, num_classes=num_classes, **options)
        initialise_head(self.head)  # timm's initial weights can be so large that the first loss is 11
        if weights or pretrained:
            if weights:
                info = weights_info(name)
                source = read_weights(weights).with_defaults(info.mean, info.std, info.image_size)
            else:
                source = create_model(name, pretrained, in_chans=in_channels).initial_weights
            load_weights(self.net, source, self.net.default_cfg["classifier"])

    @property
    def head(self) -> nn.Module:
        classifier = self.net.get_classifier()
        # A distilled net has two heads.
        return nn.ModuleList(classifier) if isinstance(classifier, tuple) else classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)
