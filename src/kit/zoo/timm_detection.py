"""Detectors of torchvision on a backbone of timm."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

from kit.ground.errors import UserError
from kit.ground.ranges import PositiveInt, PositiveInts
from kit.training.weights import read_weights
from kit.zoo.detection import CountingHead, PadAndFilter, WrappedDetector, compute_boxes_in_float32
from kit.zoo.loading import Pretrained, load_whole_or_part
from kit.zoo.timm_models import create_model, is_vit, one_size_only

SCORE = 0.05  # detections with a lower score are dropped, as in torchvision's RetinaNet
CONVS = 4  # the number of convolutions before the last layers of the head, as in torchvision
ANCHOR_SCALES = tuple(4 * 2 ** (third / 3) for third in range(3))  # sizes divided by the stride (Lin et al. 2017)


class TimmDetector(WrappedDetector):
    """torchvision's FCOS or RetinaNet with a Feature Pyramid Network on a backbone of timm. It needs the extra `zoo`.

    A vision transformer (ViT), such as `vit_small_patch16_dinov3`, has features of one stride. They are resized to the
    other strides, as in the simple feature pyramid of Li et al. 2022. The other strides are the patch size times powers
    of 2, and `strides` chooses the nearest ones: 8, 16, 32 and 64 become 7, 14, 28 and 56 if the patch size is 14.

    If the net starts from weights, the batch normalisation layers of its backbone are frozen: see
    `TorchvisionDetector`.

    Args:
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
        name: the name of the backbone in timm.
        pretrained: `auto` or True to start from a backbone that was trained on ImageNet, see `TimmNet`.
        weights: start from the weights in this file or run instead. They are for the backbone, or for the
            whole detector with any number of classes.
        head: the kind of detector. FCOS (Tian et al. 2019) needs no anchors.
        strides: the stride of each feature map (the pixels between two of its locations), ascending. Strides above the
            backbone's largest come from further convolutions. Each of them is twice the stride before it.
        neck: the number of channels of the feature maps and of the head, a multiple of 64.
        frozen_norms: whether to freeze the batch normalisation layers of the backbone; by default as described above.
    """

    additive = True  # RetinaNet averages its loss over the images, and `CountingHead` returns FCOS's divisor

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "resnet18",
        pretrained: Pretrained = False,
        weights: str | None = None,
        head: Literal["fcos", "retinanet"] = "fcos",
        strides: PositiveInts = (8, 16, 32, 64),
        neck: PositiveInt = 128,
        frozen_norms: bool | None = None,
    ) -> None:
        super().__init__()
        if neck % 64:  # FCOS normalises 32 groups of channels, and a map of one pixel needs two channels in each
            raise UserError(f"neck {neck} is not a multiple of 64")
        backbone = Pyramid(name, in_channels, strides, neck, False if weights else pretrained)
        count = len(backbone.strides)
        if head == "fcos":
            if backbone.strides[0] == 1:
                raise UserError("strides: FCOS needs strides of at least 2")
            points = AnchorGenerator(tuple((stride,) for stride in backbone.strides), ((1.0,),) * count)
            counting_head = CountingHead(neck, 1, num_classes + 1, CONVS)  # class 0 is the background
            self.net = FCOS(backbone, num_classes + 1, anchor_generator=points, head=counting_head, score_thresh=SCORE)
        else:
            sizes = tuple(tuple(round(stride * scale) for scale in ANCHOR_SCALES) for stride in backbone.strides)
            anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * count)
            self.net = RetinaNet(backbone, num_classes + 1, anchor_generator=anchors)
        self.net.transform = PadAndFilter(backbone.strides[-1])
        compute_boxes_in_float32(self.net)
        if weights:
            load_whole_or_part(self.net, backbone.body, read_weights(weights), "head.")
        if bool(pretrained or weights) if frozen_norms is None else frozen_norms:
            self.freeze_norms()


class Pyramid(nn.Module):
    """Map images to feature maps of several strides: Float[B C H W] to a dict of Float[B neck H/stride W/stride].

    Attributes:
        strides: the strides of the maps. With a vision transformer, they may differ from the argument.
    """

    def __init__(self, name: str, in_channels: int, strides: PositiveInts, neck: int, pretrained: Pretrained) -> None:
        super().__init__()
        if one_size_only(name):
            raise UserError(f"{name} takes images of one size only: choose a convolutional net or a ViT (vit_...)")
        options = {"features_only": True, "in_chans": in_channels}
        with torch.device("meta"):
            backbone_strides = create_model(name, **options).feature_info.reduction()
        largest = backbone_strides[-1]
        if is_vit(name):
            indices = [-1]  # the last block
            exponents = [round(math.log2(stride / largest)) for stride in strides]
            self.strides = [round(largest * 2.0**exponent) for exponent in exponents]
            if min(exponents) < -1 or exponents != sorted(set(exponents)):
                possible = f"{largest // 2}, {largest}, {2 * largest} and further doubles"
                raise UserError(f"strides {list(strides)}: {name} can have the strides {possible}")
        else:
            indices = [backbone_strides.index(stride) for stride in strides if stride in backbone_strides]
            lower = [backbone_strides[index] for index in indices]  # the strides of maps of the backbone
            higher = [largest * 2**i for i in range(1, len(strides) - len(lower) + 1)]
            is_complete = not higher or largest in lower  # each further map is made from the map before it
            if list(strides) != sorted(set(lower)) + higher or not is_complete:
                possible = f"{backbone_strides} and doubles of the last one"
                raise UserError(f"strides {list(strides)}: {name} can have the strides {possible}")
            exponents, self.strides = [], list(strides)
        self.body = create_model(name, pretrained, out_indices=indices, **options)
        channels = self.body.feature_info.channels()
        self.resize = nn.ModuleList(_resize(channels[0], exponent) for exponent in exponents)
        channels = [channels[0] // 2 if exponent < 0 else channels[0] for exponent in exponents] or channels
        self.fpn = FeaturePyramidNetwork(channels, neck)
        extra = len(self.strides) - len(channels)
        self.extra = nn.ModuleList(nn.Conv2d(neck, neck, 3, stride=2, padding=1) for _ in range(extra))
        self.out_channels = neck

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body(images)
        maps = [resize(maps[0]) for resize in self.resize] or maps
        maps = list(self.fpn({str(i): m for i, m in enumerate(maps)}).values())
        for convolution in self.extra:
            maps.append(convolution(F.relu(maps[-1])))
        return {str(i): m for i, m in enumerate(maps)}


def _resize(channels: int, exponent: int) -> nn.Module:
    """Return a layer that multiplies the stride of a map by 2 to the power of `exponent`, which is at least -1."""
    if exponent < 0:
        return nn.Sequential(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2), nn.GELU())
    return nn.MaxPool2d(2**exponent)
