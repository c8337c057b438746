"""Detectors with torchvision's interface: images and targets to a dict of losses in training, else to detections.

Images are Float[B C H W], normalised and of one size. Targets and detections are one dict for each image: `boxes`
Float[N 4] XYXY in pixels of these images, `labels` Long[N] from 1 to K and, for detections, `scores` Float[N].

Each net has a `backbone`, which maps images to feature maps. Its attribute `additive` says whether its losses are sums
over the images of a batch, or over the foreground locations. In the second case, the losses include the number of these
locations: `foreground`, Long[].
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS

from kit.ground.errors import UserError
from kit.zoo.detection import CountingHead, PadOnly
from project.cnn import ConvBlock, Trunk


class CnnFcos(FCOS):
    """torchvision's FCOS (Tian et al. 2019) with its head, losses and matching, on the trunk of this project.

    All boxes are predicted on one level, to which the deeper levels are added from the top down (Lin et al. 2017,
    Feature Pyramid Networks).

    Args:
        widths, depth, stem_stride: see `project.cnn.Trunk`.
        level: the level of the trunk that predicts the boxes, from 0. Its stride is `stem_stride * 2**level`.
        neck: the channels of this level and of the head, a multiple of 32 for the group normalisation of the head.
        convs: the number of convolutions of the head before its last layer.
        score_thresh: detections with a lower score are dropped.
        nms_thresh: if two detections of a class overlap by more than this IoU, only the better one is kept.
    """

    additive = True

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 64, 128),
        depth: int | Sequence[int] = (1, 1, 2, 3),
        stem_stride: int = 2,
        level: int = 2,
        neck: int = 64,
        convs: int = 1,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.6,
    ) -> None:
        if neck % 32:
            raise UserError(f"neck {neck} is no multiple of 32")
        if not 0 <= level < len(widths):
            raise UserError(f"no level {level}: {len(widths)} widths make the levels 0 to {len(widths) - 1}")
        super().__init__(
            TopDown(Trunk(in_channels, widths, depth, stem_stride), level, neck),
            num_classes + 1,  # class 0 is the background
            anchor_generator=AnchorGenerator(((stem_stride * 2**level,),), ((1.0,),)),
            head=CountingHead(neck, 1, num_classes + 1, convs),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
        )
        self.transform = PadOnly(stem_stride * 2 ** (len(widths) - 1))


class TopDown(nn.Module):
    """The levels of a trunk from `level` on, summed into one map. Float[B C H W] to Float[B neck H/s W/s]."""

    def __init__(self, trunk: Trunk, level: int, neck: int) -> None:
        super().__init__()
        self.trunk, self.level, self.out_channels = trunk, level, neck
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in trunk.widths[level:])
        self.smooth = ConvBlock(neck, neck)

    def forward(self, images: Tensor) -> Tensor:
        maps = [lateral(m) for lateral, m in zip(self.laterals, self.trunk(images)[self.level :], strict=True)]
        features = maps.pop()
        while maps:
            finer = maps.pop()
            features = finer + F.interpolate(features, size=finer.shape[-2:], mode="nearest")
        return self.smooth(features)
