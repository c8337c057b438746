"""Detectors of torchvision."""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from kit.ground._torch import proposal_limits
from kit.ground.errors import UserError, did_you_mean
from kit.training.weights import load_weights, swap_first_convolution

KINDS = ("fasterrcnn", "retinanet", "fcos", "ssd")


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
            raise UserError(f"torchvision has no detection model '{name}'{did_you_mean(name, known)}")
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
            for numbers in proposal_limits(module):
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
