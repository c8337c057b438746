"""Detectors with torchvision's interface: images and targets to losses in training, else images to detections.

Images are Float[B C H W], normalised and of one size. Targets and detections are one dict for each image: `boxes`
Float[N 4] XYXY in pixels of these images, `labels` Long[N] from 1 to K and, for detections, `scores` Float[N]. The
losses are a dict of means over the images. If the dict also has the number of foreground locations, `foreground`
Long[], the losses are means over these locations instead.

Each net has a `backbone`, which maps images to feature maps, and may have an attribute `additive`. This is True if the
losses are exactly such means: then the losses of a batch can be computed from those of its parts.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS

from kit.ground.errors import UserError
from kit.ground.ranges import NonNegativeInt, PositiveInt, PositiveInts, Share
from kit.zoo.detection import CountingHead, PadOnly
from project.cnn import ConvBlock, Trunk


class CnnFcos(FCOS):
    """torchvision's FCOS (Tian et al. 2019) on the trunk of `project.cnn`.

    All boxes are predicted from one feature map: the sum of a level of the trunk and all deeper levels, as in Feature
    Pyramid Networks (Lin et al. 2017).

    Args:
        widths, depth, stem_stride: see `project.cnn.Trunk`.
        level: the index of the level that predicts boxes, from 0. Its stride is `stem_stride * 2**level`.
        neck: the number of channels of the summed map and of the head, a multiple of 32 for its group normalisation.
        convs: the number of convolutions before the last layer of the head.
        score_thresh: detections with a lower score are dropped.
        nms_thresh: if two detections of a class overlap by more than this IoU, the one with the lower score is dropped.
    """

    additive = True

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: PositiveInts = (32, 64, 64, 128),
        depth: PositiveInt | PositiveInts = (1, 1, 2, 3),
        stem_stride: PositiveInt = 2,
        level: NonNegativeInt = 2,
        neck: PositiveInt = 64,
        convs: NonNegativeInt = 1,
        score_thresh: Share = 0.05,
        nms_thresh: Share = 0.6,
    ) -> None:
        if neck % 32:
            raise UserError(f"neck {neck} is not a multiple of 32")
        trunk = Trunk(in_channels, widths, depth, stem_stride)
        if level >= len(widths):
            raise UserError(f"level is {level}, but {len(widths)} widths make the levels 0 to {len(widths) - 1}")
        super().__init__(
            TopDown(trunk, level, neck),
            num_classes + 1,  # class 0 is the background
            anchor_generator=AnchorGenerator(((stem_stride * 2**level,),), ((1.0,),)),
            head=CountingHead(neck, 1, num_classes + 1, convs),  # adds the key `foreground` to the losses
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
        )
        # torchvision would also resize and normalise the images, which the data module has done.
        self.transform = PadOnly(stem_stride * 2 ** (len(widths) - 1))


class TopDown(nn.Module):
    """Map images to the sum of `level` and all deeper levels of a trunk: Float[B C H W] to Float[B channels h w]."""

    def __init__(self, trunk: Trunk, level: int, channels: int) -> None:
        super().__init__()
        self.trunk, self.level, self.out_channels = trunk, level, channels
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in trunk.widths[level:])
        self.smooth = ConvBlock(channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        trunk_maps = self.trunk(images)[self.level :]
        maps = [lateral(trunk_map) for lateral, trunk_map in zip(self.laterals, trunk_maps, strict=True)]
        features = maps.pop()
        while maps:
            finer = maps.pop()
            features = finer + F.interpolate(features, size=finer.shape[-2:], mode="nearest")
        return self.smooth(features)
