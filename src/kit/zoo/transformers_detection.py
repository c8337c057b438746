"""Detectors of transformers (Hugging Face): D-FINE, RT-DETR, RF-DETR and DEIMv2."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from kit.ground.errors import UserError
from kit.zoo.detection import Objects
from kit.zoo.loading import Pretrained
from kit.zoo.transformers_models import create_model, load_pretrained, read_config

KIND = "AutoModelForObjectDetection"
SUPPORTED = ("d_fine", "deimv2", "rf_detr", "rt_detr", "rt_detr_v2")  # with sigmoid scores, without a background class


class TransformersDetector(nn.Module):
    """A detector of transformers with torchvision's interface. It needs the pip extra `transformers`.

    It is trained by the losses of transformers, and its detections are the boxes with the highest scores, without
    non-maximum suppression. The net finds at most as many objects in an image as it has queries. Images are padded at
    the right and at the bottom to a multiple of the strides. These nets do not learn from random weights on few images.

    Args:
        num_classes: the number of classes, K.
        in_channels: the number of channels of an image, C.
        name: the name of the net on the Hugging Face hub, or a folder with its config.json and model.safetensors.
        pretrained: `auto` or True to start from the weights of `name`, which are downloaded once.
        weights: start from the weights in this file instead: a checkpoint of a run of the same net, with any number of
            classes. Do not give a file from the hub here: its tensors may have older names. Put it in a folder with its
            config.json, and give the folder as `name`.
        config: the content of config.json; by default, it is read from `name`. A run stores it, so that its checkpoints
            need no network connection.
    """

    additive = False  # some losses are divided by other numbers than the number of boxes
    # torchvision's detectors have an attribute of this name; `kit.boxes.predictions.ExportedDetector` reads it
    score_thresh = 0.0

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "ustc-community/dfine-small-coco",
        pretrained: Pretrained = False,
        weights: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.saved_arguments = {"config": config or read_config(name)}
        self.net = create_model(KIND, SUPPORTED, self.saved_arguments["config"], num_classes, in_channels)
        net_config, backbone_config = self.net.config, self.net.config.backbone_config
        if net_config.model_type == "deimv2" and backbone_config.model_type == "dinov3_vit" and in_channels != 3:
            raise UserError(f"DEIMv2 with DINOv3 takes 3 channels, not {in_channels}: set data.channels to 3")
        load_pretrained(self.net, KIND, name, weights, pretrained, ("class_embed", "score_head"))
        self.net.loss_function = partial(loss_or_nan, self.net.loss_function)
        # torchvision's detectors have an attribute of this name; `limit_detections` sets it
        self.detections_per_img = net_config.num_queries
        patch_size = getattr(backbone_config, "patch_size", 1)
        self.strides = getattr(net_config, "feat_strides", [patch_size])
        self.multiple = math.lcm(patch_size * getattr(backbone_config, "num_windows", 1), *self.strides)

    @property
    def backbone(self) -> nn.Module:
        return self.net.model.get_submodule("conv_encoder" if self.net.config.model_type == "deimv2" else "backbone")

    def forward(self, images: Tensor, targets: Objects | None = None) -> dict[str, Tensor] | Objects:
        height, width = images.shape[-2:]
        # No mask marks the padding: some of the nets ignore a mask, and others would scale boxes to the unpadded size.
        padded = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        size = tuple(padded.shape[-2:])
        if self.training and targets is not None:
            locations = sum((size[0] // stride) * (size[1] // stride) for stride in self.strides)
            if locations < self.net.config.num_queries:
                remedy = f"but need one for each of the {self.net.config.num_queries} queries: raise data.image_size"
                raise UserError(f"images of {height}x{width} have {locations} locations, {remedy}")
            loss = self.net(padded, labels=[to_labels(target, size) for target in targets]).loss
            count = sum(len(target["labels"]) for target in targets)
            # Without boxes, transformers skips the denoising queries. Add 0 times each parameter, since DDP waits for
            # every gradient.
            if not count:
                loss = loss + 0 * sum(parameter.sum() for parameter in self.parameters())
            # transformers divides the sum of the losses by this number, or by 1 if it is 0.
            return {"loss": loss, "foreground": torch.tensor(count, device=loss.device)}
        outputs = self.net(padded)
        detected = to_detections(outputs.logits, outputs.pred_boxes, size, self.detections_per_img)
        limits = torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)
        return [{**objects, "boxes": objects["boxes"].minimum(limits)} for objects in detected]


def loss_or_nan(function: Callable[..., Any], logits: Tensor, labels: Any, device: Any, boxes: Tensor, *rest, **more):
    """Return the results of a loss function of transformers, or a loss of NaN if the outputs of the net are not finite.

    With such outputs, the loss function would raise an exception, and the NaN guard could not repeat the step.
    """
    total = logits.float().sum() + boxes.float().sum()
    if not total.isfinite():
        return total * math.nan, {}, None
    return function(logits, labels, device, boxes, *rest, **more)


def to_labels(target: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Return targets as transformers expects them.

    Args:
        target: `boxes` Float[N 4] XYXY in pixels, and `labels` Long[N] from 1 to K.
        size: the height and width of the image.

    Returns:
        `boxes` Float[N 4], the centres, widths and heights as shares of the image, and `class_labels` Long[N] from 0.
    """
    height, width = size
    boxes = box_convert(target["boxes"], "xyxy", "cxcywh")
    return {"boxes": boxes / boxes.new_tensor([width, height] * 2), "class_labels": target["labels"] - 1}


def to_detections(logits: Tensor, boxes: Tensor, size: tuple[int, int], limit: int) -> Objects:
    """Return the pairs of a query and a class that have the highest scores, highest first.

    Args:
        logits: Float[B Q K].
        boxes: Float[B Q 4], the centres, widths and heights as shares of the image.
        size: the height and width of the images.
        limit: the largest number of detections for each image.

    Returns:
        `boxes` Float[N 4] XYXY in pixels, at least 0, `scores` Float[N] and `labels` Long[N] from 1 to K.
    """
    height, width = size
    num_classes = logits.shape[2]
    boxes = boxes.float()  # 16 bits would round the size
    corners = box_convert(boxes, "cxcywh", "xyxy").clamp(min=0) * boxes.new_tensor([width, height] * 2)
    scores, indices = logits.float().sigmoid().flatten(1).topk(min(limit, logits[0].numel()))
    queries, labels = indices // num_classes, indices % num_classes + 1
    rows = zip(corners, scores, queries, labels, strict=True)
    return [{"boxes": box[query], "scores": score, "labels": label} for box, score, query, label in rows]
