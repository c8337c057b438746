"""Detectors of torchvision."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_area, nms

from kit.ground._torch import proposal_limits, tree_map_only
from kit.zoo.loading import Pretrained, load_pretrained, torchvision_model

Objects = list[dict[str, Tensor]]  # targets or detections, a dict for each image
SUPPORTED = ("fasterrcnn", "retinanet", "fcos", "ssd")  # beginnings of names; other nets need masks or keypoints


class CountingHead(FCOSHead):
    """The head of torchvision's FCOS. Its losses also have an entry `foreground`, the number of foreground locations.

    The other entries are sums, divided by this number, or by 1 if it is 0.
    """

    def compute_loss(self, targets: Any, outputs: Any, anchors: Any, matched_idxs: list[Tensor]) -> dict[str, Tensor]:
        losses = super().compute_loss(targets, outputs, anchors, matched_idxs)
        return {**losses, "foreground": (torch.stack(matched_idxs) >= 0).sum()}


def compute_boxes_in_float32(net: nn.Module) -> None:
    """Let a net of torchvision compute anchors, boxes and losses at least in float32, also under autocast.

    Torchvision computes anchors in the type of the feature maps, and boxes in the type of the head's outputs. In
    bfloat16, coordinates above 256 pixels would be rounded to even numbers.
    """
    first_stage = getattr(net, "rpn", net)
    first_stage.anchor_generator.register_forward_pre_hook(_float_maps)
    first_stage.head.register_forward_hook(_float_outputs)
    if hasattr(net, "roi_heads"):
        net.roi_heads.box_predictor.register_forward_hook(_float_outputs)


def _float_maps(_: nn.Module, arguments: tuple[ImageList, list[Tensor]]) -> tuple[ImageList, list[Tensor]]:
    images, maps = arguments
    return images, [_to_float(feature_map[:1, :1]) for feature_map in maps]  # only the size and the type matter


def _float_outputs(_: nn.Module, __: Any, outputs: Any) -> Any:
    return tree_map_only(Tensor, _to_float, outputs)


def _to_float(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def assign_boxes(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return the index of the box that each location learns, Long[N], or -1 for the background.

    A location learns a box if it is inside of the box, less than 1.5 strides from its centre, and on a level for boxes
    of this size. Of several such boxes, it learns the smallest (Tian et al. 2019, section 3).

    The size ranges of neighbouring levels overlap, so that most objects are learned on two levels. In torchvision's
    FCOS, a location on a level of stride s learns a box if its farthest edge is 4 s to 8 s pixels away. Here, the range
    is 2 s to 8 s. Each object then has more locations, which helps with few training images.

    Args:
        anchors: Float[N 4] XYXY, a square around each location. Its side is the stride of the level.
        boxes: Float[M 4] XYXY.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, device=anchors.device)
    strides = (anchors[:, 2] - anchors[:, 0])[:, None]
    locations = (anchors[:, None, :2] + anchors[:, None, 2:]) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = torch.cat([locations - boxes[:, :2], boxes[:, 2:] - locations], 2)  # to the four edges, [N M 4]
    nearest, farthest = distances.amin(2), distances.amax(2)
    lowest = torch.where(strides == strides.min(), 0.0, 2 * strides)
    highest = torch.where(strides == strides.max(), math.inf, 8 * strides)
    is_match = ((locations - centres).abs().amax(2) < 1.5 * strides) & (nearest > 0)
    is_match &= (lowest < farthest) & (farthest < highest)
    smallest, indices = torch.where(is_match, box_area(boxes), math.inf).min(1)
    return torch.where(smallest.isinf(), -1, indices)


class WrappedDetector(nn.Module):
    """A detector of torchvision, `net`, whose backbone can have frozen batch normalisation layers."""

    net: Any

    def __init__(self) -> None:
        super().__init__()
        self._frozen_norms: list[nn.BatchNorm2d] = []

    def freeze_norms(self) -> None:
        """Stop the training of the backbone's batch normalisation layers, and keep them in evaluation mode."""
        self._frozen_norms = [module for module in self.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._frozen_norms:
            norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, except the frozen normalisation layers, which stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    @property
    def backbone(self) -> nn.Module:
        return self.net.backbone

    def forward(self, images: Tensor, targets: Objects | None = None) -> dict[str, Tensor] | Objects:
        return self.net(images, targets)


class TorchvisionDetector(WrappedDetector):
    """A detector of torchvision by its name (`fasterrcnn_resnet50_fpn_v2`), with heads for K classes.

    If the net starts from weights, the batch normalisation layers of its backbone are frozen as in torchvision, since a
    batch has too few images for good statistics. Frozen layers are not trained, and stay in evaluation mode. Unlike in
    torchvision, a frozen layer has the same tensors as a trained layer, so that a checkpoint fits both. Layers of SSD,
    and of detectors whose names end with `_v2`, are never frozen.

    Args:
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
        name: the name of the detector in torchvision.
        pretrained: `auto` or True to start from the default weights of torchvision (COCO), which are
            downloaded once.
        weights: start from the weights in this file or run instead. They are for the same net with any number of
            classes, or for its backbone.
        frozen_norms: whether to freeze the batch normalisation layers of the backbone; by default as described above.
            It has no effect for SSD and for names that end with `_v2`.
        class_agnostic_nms: whether non-maximum suppression also drops overlapping detections of different classes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "fasterrcnn_mobilenet_v3_large_320_fpn",
        pretrained: Pretrained = False,
        weights: str | None = None,
        frozen_norms: bool | None = None,
        class_agnostic_nms: bool = False,
    ) -> None:
        super().__init__()
        options = {"weights_backbone": None, "num_classes": num_classes + 1}  # class 0 is the background
        self.net = torchvision_model(name, models.detection, in_channels, SUPPORTED, **options)
        body = getattr(self.net.backbone, "body", self.net.backbone)  # without the feature pyramid, if there is one
        load_pretrained(self.net, name, weights, pretrained, ("head.", "roi_heads.box_predictor."), body)
        # Whether the losses of the parts of a batch add up exactly. RetinaNet's losses do: it normalises the loss of
        # each image separately and averages over the images. Other detectors sample boxes, or divide by a count over
        # the batch.
        self.additive = name.startswith("retinanet")
        self.class_agnostic_nms = class_agnostic_nms
        nms_thresh = getattr(self.net, "roi_heads", self.net).nms_thresh
        self.net.transform = PadAndFilter(self.net.transform.size_divisible, nms_thresh if class_agnostic_nms else None)
        compute_boxes_in_float32(self.net)
        is_frozen = bool(pretrained or weights) if frozen_norms is None else frozen_norms
        if is_frozen and not name.endswith("_v2") and not name.startswith("ssd"):
            self.freeze_norms()


def limit_detections(net: nn.Module, max_detections: int) -> None:
    """Set the largest number of detections that a net of torchvision returns for an image.

    If this number is above the net's default, the number of candidates before non-maximum suppression grows by the same
    factor: `topk_candidates`, or the proposals of a two-stage detector. Nets without these attributes are unchanged.
    """
    factor = 1.0
    for module in net.modules():
        if hasattr(module, "detections_per_img"):  # torchvision's classes have no common base
            factor = max(factor, max_detections / module.detections_per_img)
            module.detections_per_img = max_detections
    for module in net.modules():
        if hasattr(module, "topk_candidates"):  # these classes have no common base, either
            module.topk_candidates = math.ceil(module.topk_candidates * factor)
        if isinstance(module, RegionProposalNetwork):
            for limits in proposal_limits(module):
                limits["testing"] = math.ceil(limits["testing"] * factor)


class PadAndFilter(nn.Module):
    """Pad images and filter detections, in place of torchvision's `GeneralizedRCNNTransform`.

    That class would resize and normalise the images a second time. This one pads them at the right and at the bottom,
    so that boxes stay valid. Height and width become multiples of `multiple`, which is a multiple of each stride of
    the net. It drops detections of class 0, the background, which FCOS and RetinaNet may return. If `nms_thresh` is
    given, it also drops a detection if its IoU with a detection of a higher score, of any class, is above `nms_thresh`.
    """

    def __init__(self, multiple: int, nms_thresh: float | None = None) -> None:
        super().__init__()
        self.multiple, self.nms_thresh = multiple, nms_thresh

    def forward(self, images: Tensor, targets: Objects | None = None) -> tuple[ImageList, Objects | None]:
        height, width = images.shape[-2:]
        bottom, right = -height % self.multiple, -width % self.multiple
        padded = F.pad(images, (0, right, 0, bottom)) if bottom or right else images
        return ImageList(padded, [(height, width)] * len(images)), targets

    def postprocess(self, result: Objects, *_) -> Objects:
        result = [{key: value[detected["labels"] > 0] for key, value in detected.items()} for detected in result]
        if self.nms_thresh is None:
            return result
        indices = [nms(detected["boxes"], detected["scores"], self.nms_thresh) for detected in result]
        return [{key: value[i] for key, value in detected.items()} for detected, i in zip(result, indices, strict=True)]
