"""Segmentation nets of torchvision and segmentation-models-pytorch.

They map images Float[B C H W] to logits Float[B K H W].
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from kit.ground.errors import UserError, import_extra, one_line
from kit.training.weights import (
    NotDownloaded,
    Weights,
    initialise_head,
    load_weights,
    read_weights,
    set_initial_weights,
)
from kit.zoo import loading
from kit.zoo.loading import Pretrained, load_whole_or_part, require_known
from kit.zoo.timm_models import packaged_weights

SMP_MULTIPLE = 32  # the encoders of SmpNet need heights and widths that are multiples of this


class TorchvisionSegmenter(nn.Module):
    """A segmentation net of torchvision by its name (`deeplabv3_resnet50`), with a head for K classes.

    The auxiliary classifier of some nets is left out.

    Args:
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
        name: the name of the net in torchvision.
        pretrained: `auto` or True to start from the default weights of torchvision, which are downloaded once.
        weights: start from the weights in this file or run instead. They are for the same net with any number of
            classes, or for its backbone.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "lraspp_mobilenet_v3_large",
        pretrained: Pretrained = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.net = loading.torchvision_model(name, models.segmentation, in_channels, weights_backbone=None)
        self.net.aux_classifier = None
        layers = {n: m for n, m in self.net.classifier.named_modules(prefix="classifier") if isinstance(m, nn.Conv2d)}
        old_num_classes = list(layers.values())[-1].out_channels
        # LR-ASPP adds up the logits of two heads.
        heads = {n: m for n, m in layers.items() if m.out_channels == old_num_classes}
        for layer, old in heads.items():
            self.net.set_submodule(layer, nn.Conv2d(old.in_channels, num_classes, old.kernel_size))
        self._heads = tuple(heads)
        loading.load_pretrained(self.net, name, weights, pretrained, self._heads, self.net.backbone)

    @property
    def head(self) -> nn.Module:
        return nn.ModuleList(map(self.net.get_submodule, self._heads))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)["out"]


class SmpNet(nn.Module):
    """A model of segmentation_models_pytorch with any of its encoders. It needs the pip extra `zoo`.

    Args:
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
        arch: the architecture, such as `unet`, `fpn` or `segformer`.
        encoder: the encoder, such as `resnet18`, or `tu-NAME` for the model NAME of timm.
        pretrained: `auto` or True to start with an encoder that was trained on ImageNet. It is downloaded once, or is
            in the pip extra `weights`, see `TimmNet`.
        weights: start from the weights in this file or run instead. They are for the encoder, or for the whole net with
            any number of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        arch: str = "unet",
        encoder: str = "resnet18",
        pretrained: Pretrained = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        smp, timm = (import_extra(package, "SmpNet", "zoo") for package in ("segmentation_models_pytorch", "timm"))
        encoders = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())]
        require_known(arch, smp.MODEL_ARCHITECTURES_MAPPING, "segmentation_models_pytorch has no architecture")
        require_known(encoder, encoders, "segmentation_models_pytorch has no encoder")
        create = partial(smp.create_model, arch, encoder, in_channels=in_channels, classes=num_classes)
        try:
            self.net = self._pretrained(create, encoder) if pretrained and not weights else create(encoder_weights=None)
        except KeyError as error:  # an encoder without such weights
            raise UserError(f"{one_line(error)}: leave model.net.pretrained at false") from None
        initialise_head(self.head)
        if weights:
            load_whole_or_part(self.net, self.net.encoder, read_weights(weights), "segmentation_head")

    @staticmethod
    def _pretrained(create: Callable[..., nn.Module], encoder: str) -> nn.Module:
        """Return a net with a pretrained encoder.

        Args:
            create: makes the net. It has the argument `encoder_weights` of segmentation_models_pytorch.
            encoder: the name of the encoder.
        """
        import segmentation_models_pytorch as smp

        try:
            with loading.downloading_from_hub(encoder):
                net = create(encoder_weights="imagenet")
                preprocessing = smp.encoders.get_preprocessing_params(encoder)
        except NotDownloaded as error:
            weights = packaged_weights(encoder.removeprefix("tu-").removeprefix("timm-"), error)
            net = create(encoder_weights=None)
            load_weights(net.encoder.model if encoder.startswith("tu-") else net.encoder, weights)
        else:
            state = net.encoder.state_dict()
            weights = Weights(state, f"segmentation_models_pytorch's {encoder}")
            set_initial_weights(net.encoder, weights.with_defaults(preprocessing["mean"], preprocessing["std"]), state)
        return net

    @property
    def head(self) -> nn.Module:
        return self.net.segmentation_head

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padding = (0, -width % SMP_MULTIPLE, 0, -height % SMP_MULTIPLE)
        padded = F.pad(images, padding, mode="replicate") if any(padding) else images
        return self.net(padded)[..., :height, :width]
