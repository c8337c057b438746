"""Detectors with torchvision's interface. They return losses in training, and detections in evaluation.

Images are Float[B C H W], normalised and of one size. Targets and detections are one dict for each image: `boxes`
Float[N 4] XYXY in pixels of these images, `labels` Long[N] from 1 to K and, for detections, `scores` Float[N]. The
losses are a dict of means. A foreground location is a cell of a feature map to which an object is assigned. If the dict
has the number of these locations, `foreground` Long[], each loss is a mean over them. Otherwise each loss is a mean
over the images.

Each net has a `backbone`, which maps images to feature maps, and may have an attribute `additive`. It is True if each
loss is a sum over the images, divided by the number of foreground locations or of images, and the summand of an image
does not depend on the other images. The memory guard (`kit.safeguards.memory`) divides a batch that does not fit into
memory. If `additive` is True, the values that `Task.loss_terms` returns for the parts then add up exactly to those of
the batch. A net may also have `class_agnostic_nms`. It is True if the net also removes overlapping detections of
different classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS

from kit.ground.errors import UserError
from kit.ground.ranges import NonNegativeInt, PositiveInt, PositiveInts, Share
from kit.training.weights import load_weights
from kit.zoo.detection import CountingHead, Objects, PadAndFilter, assign_boxes, compute_boxes_in_float32
from project.cnn import ConvBlock, Trunk


class CnnFcos(FCOS):
    """torchvision's FCOS (Tian et al. 2019) on the trunk of `project.cnn`.

    Boxes are predicted from one or more levels of a feature pyramid. With several levels, the first predicts small
    objects, and the others predict larger ones. Unlike in torchvision, the size ranges of neighbouring levels overlap,
    so that most objects are learned on two levels: see `kit.zoo.detection.assign_boxes`. One level suffices for
    objects of similar size.

    Args:
        widths, depth, stem_stride: see `project.cnn.Trunk`.
        levels: the levels that predict boxes: one or more consecutive indices, such as 2, 3, 4. The first level is 0.
            The stride of level i is `stem_stride * 2**i`, and must be even.
        neck: the number of channels of the pyramid and of the head, a multiple of 32 for its group normalisation.
        convs: the number of convolutions before the last layer of the head.
        score_thresh: detections with a lower score are dropped.
        nms_thresh: if two detections of a class overlap by more than this IoU, the one with the lower score is dropped.
        class_agnostic_nms: whether `nms_thresh` also applies to detections of different classes. Choose True if
            objects never overlap.
        weights: a run or a checkpoint file from which the trunk is loaded; see `kit.training.weights`.
    """

    additive = True

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: PositiveInts = (32, 64, 64, 128),
        depth: PositiveInt | PositiveInts = (1, 1, 2, 3),
        stem_stride: PositiveInt = 2,
        levels: Sequence[NonNegativeInt] = (2,),
        neck: PositiveInt = 64,
        convs: NonNegativeInt = 1,
        score_thresh: Share = 0.05,
        nms_thresh: Share = 0.6,
        class_agnostic_nms: bool = False,
        weights: str | None = None,
    ) -> None:
        if neck % 32:
            raise UserError(f"neck {neck} is not a multiple of 32")
        trunk = Trunk(in_channels, widths, depth, stem_stride)
        if weights:
            load_weights(trunk, weights)
        if not levels or levels[0] < 0 or [*levels] != [*range(levels[0], len(widths))][: len(levels)]:
            condition = f"consecutive numbers between 0 and {len(widths) - 1}, since there are {len(widths)} widths"
            raise UserError(f"levels is {list(levels)}, but must be {condition}")
        strides = tuple((stem_stride * 2**level,) for level in levels)
        if stem_stride % 2 and 0 in levels:  # torchvision rounds the corners of an anchor, which are at +-stride / 2
            remedy = "leave out this level, or give an even stem_stride"
            raise UserError(f"levels: level 0 has the stride {stem_stride}, but strides must be even: {remedy}")
        super().__init__(
            FeaturePyramid(trunk, levels, neck),
            num_classes + 1,  # class 0 is the background
            anchor_generator=AnchorGenerator(strides, ((1.0,),) * len(levels)),
            head=CountingHead(neck, 1, num_classes + 1, convs),  # adds the key `foreground` to the losses
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
        )
        self.class_agnostic_nms = class_agnostic_nms
        # torchvision's transform would also resize and normalise the images, which the data module has done.
        self.transform = PadAndFilter(stem_stride * 2 ** (len(widths) - 1), nms_thresh if class_agnostic_nms else None)
        compute_boxes_in_float32(self)

    def compute_loss(
        self, targets: Objects, outputs: dict[str, Tensor], anchors: list[Tensor], num_anchors: list[int]
    ) -> dict[str, Tensor]:
        rows = zip(anchors, targets, strict=True)
        indices = [assign_boxes(image_anchors, target["boxes"]) for image_anchors, target in rows]
        return self.head.compute_loss(targets, outputs, anchors, indices)


class FeaturePyramid(nn.Module):
    """Map images to feature maps, as Feature Pyramid Networks do (Lin et al. 2017): Float[B C H W] to a dict by level.

    The map of a level, Float[B channels h w], combines the features of this and of all deeper levels of the trunk.
    """

    def __init__(self, trunk: Trunk, levels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.trunk, self.levels, self.out_channels = trunk, levels, channels
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in trunk.widths[levels[0] :])
        self.smooth = nn.ModuleList(ConvBlock(channels, channels) for _ in levels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        trunk_maps = self.trunk(images)[self.levels[0] :]
        maps = [lateral(trunk_map) for lateral, trunk_map in zip(self.laterals, trunk_maps, strict=True)]
        for i in reversed(range(len(maps) - 1)):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
        pairs = zip(self.levels, self.smooth, strict=True)
        return {str(level): smooth(maps[level - self.levels[0]]) for level, smooth in pairs}
