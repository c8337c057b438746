"""Nets by torchvision's protocol: in training, images and targets to a dict of losses; else images to detections.

Images are Float[B C H W], all of one size and normalised. Targets and detections are one dict an image: `boxes`
Float[N 4] XYXY in pixels of these images, `labels` Long[N] from 1 to K, and `scores` Float[N] of a detection.
Each net has a `backbone`, images to maps of features, and says in `additive` whether its losses are sums over a
batch's images, or over their foreground, whose number then stands among them: `foreground`, Long[].
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS

from kit.ground.errors import UserError
from kit.zoo.detection import AsTheyAre, CountingHead
from project.cnn import ConvBlock, Trunk


class CnnFcos(FCOS):
    """torchvision's FCOS, its head, losses and matching (Tian et al. 2019), over the project's own network.

    All boxes are found on one level, into which the deeper ones are added from the top down (Lin et al. 2017, Feature
    Pyramid Networks).

    Args:
        widths, depth, stem_stride: the trunk's, see `project.cnn.Trunk`.
        level: the trunk's level that finds the boxes, from 0; its stride is `stem_stride * 2**level`.
        neck: the channels of the level and of the head, a multiple of 32 (the head's group normalisation).
        convs: the convolutions of the head, before its last.
        score_thresh: detections below are left out.
        nms_thresh: of two detections of a class that overlap more (IoU), the better one stays.
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
            num_classes + 1,  # the background is class 0
            anchor_generator=AnchorGenerator(((stem_stride * 2**level,),), ((1.0,),)),
            head=CountingHead(neck, 1, num_classes + 1, convs),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
        )
        self.transform = AsTheyAre(stem_stride * 2 ** (len(widths) - 1))


class TopDown(nn.Module):
    """A trunk's levels from `level` on, summed into one map. Float[B C H W] to Float[B neck H/s W/s]."""

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
