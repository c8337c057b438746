"""Segmentation nets of transformers (Hugging Face): SegFormer, Mask2Former and EoMT."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.training.weights import initialise_head
from kit.zoo.loading import Pretrained
from kit.zoo.transformers_models import create_model, load_pretrained, read_config

SEMANTIC, UNIVERSAL = "AutoModelForSemanticSegmentation", "AutoModelForUniversalSegmentation"
# Maps the model type in a configuration to the class of transformers and the name of the last layer.
SUPPORTED = {
    "segformer": (SEMANTIC, "decode_head.classifier"),
    "mask2former": (UNIVERSAL, "class_predictor"),
    "eomt": (UNIVERSAL, "class_predictor"),
    "eomt_dinov3": (UNIVERSAL, "class_predictor"),
}
MIN_SUM = 1e-6  # the number that is added to a sum of masks before its logarithm is taken


class TransformersSegmenter(nn.Module):
    """A segmentation net of transformers. It maps images Float[B C H W] to logits Float[B K H W].

    It needs the pip extra `transformers`. Mask2Former and EoMT predict masks and their classes. Here, the logit of a
    class at a pixel is the logarithm of the sum of its masks, weighted by their probabilities for the class. These nets
    are trained by the losses of the task, such as cross-entropy, and not by their own, which match masks with segments.
    EoMT takes square images of one size, so images are resized to this size.

    `kit.zoo.TransformersDetector` describes the arguments.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "facebook/mask2former-swin-tiny-ade-semantic",
        pretrained: Pretrained = False,
        weights: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        config = config or read_config(name)
        self.saved_arguments = {"config": config}
        kind, self._head_name = SUPPORTED.get(config.get("model_type"), ("", ""))
        self.net = create_model(kind, SUPPORTED, config, num_classes, in_channels)
        initialise_head(self.head)
        load_pretrained(self.net, kind, name, weights, pretrained, (self._head_name, "empty_weight"))
        is_fixed = self.net.config.model_type.startswith("eomt")
        self.image_size = self.net.config.image_size if is_fixed else None  # the height and width, or None

    @property
    def head(self) -> nn.Module:
        return self.net.get_submodule(self._head_name)

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        if self.image_size:
            images = F.interpolate(images, (self.image_size, self.image_size), mode="bilinear")
        outputs = self.net(images)
        if self._head_name == "class_predictor":
            logits = pixel_logits(outputs.class_queries_logits, outputs.masks_queries_logits)
        else:
            logits = outputs.logits
        return F.interpolate(logits, size, mode="bilinear")


def pixel_logits(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return the logarithm of each class's sum of masks, weighted by their probabilities for the class.

    Args:
        class_logits: Float[B Q K+1], for Q masks. The last class means that the mask shows nothing.
        mask_logits: Float[B Q h w].

    Returns:
        Float[B K h w]. Their softmax over K is the share of each class in the sum over the classes.
    """
    classes = class_logits.float().softmax(2)[..., :-1]
    sums = torch.einsum("bqk,bqhw->bkhw", classes, mask_logits.float().sigmoid())
    return (sums + MIN_SUM).log()
