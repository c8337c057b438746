"""Segmentation nets of torchvision and segmentation-models-pytorch: Float[B C H W] to logits Float[B K H W]."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kit.ground.errors import UserError, did_you_mean
from kit.training.weights import initialise_head, load_weights, swap_first_convolution


class TorchvisionSegmenter(nn.Module):
    """Any segmentation network of torchvision, by its name there (`deeplabv3_resnet50`), with a head for our classes.

    The auxiliary classifier that some have, for training alone, is left out.

    Args:
        pretrained: start from torchvision's default weights, downloaded once.
        weights: start from a file of weights instead: a state dict of this network, with any number of classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "lraspp_mobilenet_v3_large",
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        from torchvision import models

        known = models.list_models(module=models.segmentation)
        if name not in known:
            raise UserError(f"torchvision has no segmentation model '{name}'{did_you_mean(name, known)}")
        self.net = models.get_model(name, weights=None, weights_backbone=None)
        self.net.aux_classifier = None
        swap_first_convolution(self.net, in_channels)
        self._heads = _swap_classifiers(self.net, num_classes)
        if weights:
            load_weights(self.net, weights, tuple(self._heads))
        elif pretrained:
            load_weights(self.net, models.get_model(name, weights="DEFAULT").state_dict(), tuple(self._heads))

    @property
    def head(self) -> nn.Module:
        return nn.ModuleList(self.net.get_submodule(name) for name in self._heads)  # LR-ASPP has two, which it adds up

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)["out"]


class SmpNet(nn.Module):
    """Any model of segmentation_models_pytorch over any of its encoders. Needs the extra `zoo`.

    Args:
        arch: `unet`, `fpn`, `segformer`, ...
        encoder: `resnet18`, or a model of timm as `tu-NAME`.
        pretrained: start with an encoder trained on ImageNet, downloaded once.
        weights: start from a file of weights instead: a state dict of this network, with any number of classes.
    """

    MULTIPLE = 32  # of which the encoders want height and width

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        arch: str = "unet",
        encoder: str = "resnet18",
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import segmentation_models_pytorch as smp
            import timm
        except ImportError:
            raise UserError("SmpNet needs segmentation_models_pytorch: pip install -e '.[zoo]'") from None
        encoders = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())]
        architectures = smp.MODEL_ARCHITECTURES_MAPPING
        for what, name, known in (("architecture", arch, architectures), ("encoder", encoder, encoders)):
            if name not in known:
                raise UserError(f"segmentation_models_pytorch has no {what} '{name}'{did_you_mean(name, known)}")
        encoder_weights = "imagenet" if pretrained and not weights else None
        try:
            self.net = smp.create_model(arch, encoder, encoder_weights, in_channels, num_classes)
        except KeyError as error:
            if "pretrained weights" not in str(error):
                raise
            told = "has no ImageNet weights: leave model.net.pretrained at false"
            raise UserError(f"segmentation_models_pytorch's encoder {encoder} {told}") from None
        initialise_head(self.head)
        if weights:
            load_weights(self.net, weights, "segmentation_head")

    @property
    def head(self) -> nn.Module:
        return self.net.segmentation_head

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        around = (0, -width % self.MULTIPLE, 0, -height % self.MULTIPLE)
        padded = F.pad(images, around, mode="replicate") if any(around) else images
        return self.net(padded)[..., :height, :width]


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Float[B C h w] to Float[B C size], bilinear."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def in_windows(net: Callable[[Tensor], Tensor], images: Tensor, window: tuple[int, int]) -> Tensor:
    """Logits Float[B K H W] of images that are larger than what a net was trained on.

    Windows of half overlap, the last one flush with the border; where several cover a pixel, the mean of their logits.
    """
    height, width = images.shape[-2:]
    rows, columns = (_starts(length, part) for length, part in zip((height, width), window, strict=True))
    if len(rows) == len(columns) == 1:
        return net(images)
    total: Tensor | None = None
    times = images.new_zeros(height, width)
    for top in rows:
        for left in columns:
            part = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            logits = net(images[part])
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[part] += logits
            times[part] += 1
    return total / times


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin along a side."""
    if length <= window:
        return [0]
    return [*range(0, length - window, max(1, window // 2)), length - window]


def _swap_classifiers(net: nn.Module, num_classes: int) -> list[str]:
    """Replaces the convolutions that give the classes, and returns their names."""
    convolutions = [(name, m) for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    old_classes = convolutions[-1][1].out_channels
    names = []
    for name, old in convolutions:
        if name.startswith("classifier") and old.out_channels == old_classes:
            net.set_submodule(name, nn.Conv2d(old.in_channels, num_classes, old.kernel_size))
            names.append(name)
    return names
