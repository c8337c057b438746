"""Nets by torchvision's protocol: in training, images and targets to a dict of losses; else images to detections.

Images are Float[B C H W], all of one size and normalised. Targets and detections are one dict an image: `boxes`
Float[N 4] XYXY in pixels of these images, `labels` Long[N] from 1 to K, and `scores` Float[N] of a detection.
Each net has a `backbone`, images to maps of features, and says in `additive` whether its losses are sums over a
batch's images, or over their foreground, whose number then stands among them: `foreground`, Long[].
"""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from project import UserError, nearest
from project.cnn import ConvBlock, Trunk
from project.weights import load_weights, swap_first_convolution

KINDS = ("fasterrcnn", "retinanet", "fcos", "ssd")


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


class CountingHead(FCOSHead):
    """torchvision's, with the number of foreground places, by which it divides each loss, or by 1 if there are none."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return {**losses, "foreground": (torch.stack(matched_idxs) >= 0).sum()}


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


class TorchvisionDetector(nn.Module):
    """A detector of torchvision by its name there (`fasterrcnn_resnet50_fpn_v2`), with heads for our classes.

    A net that starts from weights keeps the batch normalisation of its backbone fixed, as torchvision does (for all but
    `_v2` and SSD): a batch has too few images for good means and variances. The net has the same tensors as one that
    starts from scratch, so that a checkpoint fits both.

    Args:
        pretrained: start from torchvision's default weights (COCO), downloaded once.
        weights: start from a file of weights instead: a state dict of this network, with any number of classes.
        fixed_norms: keep the backbone's batch normalisation fixed, whatever the start; by default as described above.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "fasterrcnn_mobilenet_v3_large_320_fpn",
        pretrained: bool = False,
        weights: str | None = None,
        fixed_norms: bool | None = None,
    ) -> None:
        super().__init__()
        known = [model for model in models.list_models(module=models.detection) if model.startswith(KINDS)]
        if name not in known:
            raise UserError(f"torchvision has no detection model '{name}'{nearest(name, known)}")
        self.net = models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes + 1)
        self._fixed_norms: list[nn.BatchNorm2d] = []
        fixed = bool(pretrained or weights) if fixed_norms is None else fixed_norms
        if fixed and not name.endswith("_v2") and not name.startswith("ssd"):
            self._fixed_norms = [m for m in self.net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        if pretrained or weights:
            source = weights or models.get_model_weights(name).DEFAULT.get_state_dict(progress=True, check_hash=True)
            load_weights(self.net, source, head=("head.", "roi_heads.box_predictor."))
        swap_first_convolution(self.net.backbone, in_channels)
        self.additive = name.startswith("retinanet")  # the others sample, or divide by what the whole batch shows
        self.net.transform = AsTheyAre(self.net.transform.size_divisible)
        for norm in self._fixed_norms:
            norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, except the fixed normalisation layers, which stay in evaluation mode."""
        super().train(mode)
        for norm in self._fixed_norms:
            norm.eval()
        return self

    @property
    def backbone(self) -> nn.Module:
        return self.net.backbone

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        return self.net(images, targets)


def limit_detections(net: nn.Module, most: int) -> None:
    """Set the largest number of detections that a net of torchvision returns for an image.

    If that is more than the net's own limit, the number of candidates before non-maximum suppression
    (`topk_candidates`, or the proposals of a two-stage detector) grows by the same factor. Nets without torchvision's
    attributes keep their own limits.
    """
    factor = 1.0
    for module in net.modules():
        if hasattr(module, "detections_per_img"):
            factor = max(factor, most / module.detections_per_img)
            module.detections_per_img = most
    for module in net.modules():
        if hasattr(module, "topk_candidates"):
            module.topk_candidates = math.ceil(module.topk_candidates * factor)
        if isinstance(module, RegionProposalNetwork):
            for numbers in (module._pre_nms_top_n, module._post_nms_top_n):  # these have no public names
                numbers["testing"] = math.ceil(numbers["testing"] * factor)


class AsTheyAre(nn.Module):
    """In the place of torchvision's `GeneralizedRCNNTransform`, which would resize and normalise a second time.

    It pads images at their right and bottom to multiples of `multiple`, so that strides divide them, and leaves
    boxes as they are. Of detections it drops the background, for which FCOS and RetinaNet have an output, too.
    """

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        height, width = images.shape[-2:]
        bottom, right = -height % self.multiple, -width % self.multiple
        padded = F.pad(images, (0, right, 0, bottom)) if bottom or right else images
        return ImageList(padded, [(height, width)] * len(images)), targets

    def postprocess(self, result: list[dict[str, Tensor]], *_) -> list[dict[str, Tensor]]:
        return [{key: value[found["labels"] > 0] for key, value in found.items()} for found in result]
