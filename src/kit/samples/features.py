"""Compute feature maps with trained nets, for the losses of style transfer."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from kit.checkpoints import checkpoint
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError, did_you_mean
from kit.samples.judge import make_trunk
from kit.training.weights import DATA_STATE, downloading, load_weights

BLOCK = "net.trunk.levels.{}.{}.0.weight"  # the name of a convolution's weights, by level and block
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
UNTRAINED = "the features of an untrained net describe colours, but no strokes"


class FeatureExtractor(nn.Module):
    """Map images from -1 to 1 to features. The net is not trained further.

    Args:
        net: a trained net.
        layers: the names of the layers whose outputs are the features, the shallowest first.
        mean, std: the normalisation with which the net was trained: one number for each channel, for pixels from 0 to
            1.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # A layer that works in place would change the output of the layer before it, which may be a feature.
        for module in net.modules():
            if hasattr(module, "inplace"):  # layers of many classes have this attribute
                module.inplace = False
        self.net = create_feature_extractor(net.eval(), list(layers))
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.to(memory_format=torch.channels_last)  # the faster layout on most processors
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps, Float[B C H W] each, the shallowest first."""
        mean, std = (values.to(images).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return list(self.net(((images + 1) / 2 - mean) / std).values())


class Features(ABC):
    """The choice of the net whose features a run uses. A config gives it by class path.

    The net is loaded for training only: a trained model does not need it.
    """

    @abstractmethod
    def load(self, in_channels: int) -> FeatureExtractor:
        """Load the net for images with `in_channels` channels.

        Raises:
            UserError: the net does not exist, is not trained, or takes another number of channels.
        """


class ClassifierFeatures(Features):
    """The features of a classifier that was trained with the `CNN` of this template. Nothing is downloaded.

    Args:
        run: the run folder of the classifier, or a checkpoint file.
    """

    def __init__(self, run: str) -> None:
        self.run = run

    def load(self, in_channels: int) -> FeatureExtractor:
        try:
            file = checkpoint.find(self.run)
        except UserError as error:
            raise UserError(f"model.features.run: {error}; train a classifier first, or give its folder") from None
        content = checkpoint.read(file)  # only plain values and tensors: this runs no code that the file names
        if not content.get("global_step"):
            raise UserError(f"{file} is untrained, and {UNTRAINED}: train it first")
        try:
            tensors = content["state_dict"]
            blocks = re.findall(re.escape(BLOCK).replace(r"\{\}", r"(\d+)"), "\n".join(tensors))
            depths = list(Counter(int(level) for level, _ in blocks).values())
            widths = [len(tensors[BLOCK.format(level, 0)]) for level in range(len(depths))]
            stem_stride = int(content["hyper_parameters"]["net"].get("init_args", {}).get("stem_stride", 1))
            with Budget(file):
                trunk = make_trunk(tensors[BLOCK.format(0, 0)].shape[1], widths, depths, stem_stride)
            trunk.load_state_dict({name: tensors[f"net.trunk.{name}"] for name in trunk.state_dict()})
            data = next(value for value in content.values() if isinstance(value, dict) and {*value} >= DATA_STATE)
            channels = data["in_channels"]
            layers = [f"levels.{level}.0" for level in range(len(depths))]  # the first block of each level
            extractor = FeatureExtractor(trunk, layers, data["mean"], data["std"])
        except (AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError):
            raise UserError(f"{file} is not a classifier with the CNN of this template") from None
        if channels != in_channels:
            raise UserError(f"{file} is for images with {channels} channel(s), but the data have {in_channels}")
        return extractor


class TorchvisionFeatures(Features):
    """The features of a torchvision net with an attribute `features`, such as VGG, MobileNet or ConvNeXt.

    They are the outputs of four layers: for VGG-16, the layers of Johnson et al. 2016; for other nets, evenly spaced
    layers.

    Args:
        name: the name of the net in torchvision.
        weights: a file with the weights of the net, or of its `features` alone, see `kit.training.weights`.
        pretrained: whether to use the weights of torchvision, which are downloaded once, if no file is given.
    """

    def __init__(self, name: str = "vgg16", weights: str | None = None, pretrained: bool = False) -> None:
        self.name, self.weights, self.pretrained = name, weights, pretrained

    def load(self, in_channels: int) -> FeatureExtractor:
        from torchvision import models

        if not self.weights and not self.pretrained:
            raise UserError(f"{UNTRAINED}: give model.features.weights FILE, or model.features.pretrained true")
        names = models.list_models(module=models)
        if self.name not in names:
            raise UserError(f"torchvision has no model '{self.name}'{did_you_mean(self.name, names)}")
        if in_channels != 3:
            raise UserError(f"the nets of torchvision are for 3 channels, but the data have {in_channels}")
        with downloading(self.name, "--model.features.weights FILE"):
            net = models.get_model(self.name, weights=None if self.weights else "DEFAULT")
        features = dict(net.named_children()).get("features")
        if not isinstance(features, nn.Sequential):
            raise UserError(f"torchvision's {self.name} has no `features`; vgg16 and mobilenet_v3_small have them")
        if self.weights:
            load_weights(features, self.weights, ())
        # relu1_2, relu2_2, relu3_3 and relu4_3 of VGG-16
        layers = (3, 8, 15, 22) if self.name == "vgg16" else (len(features) * i // 5 for i in range(1, 5))
        return FeatureExtractor(features, list(map(str, layers)), IMAGENET_MEAN, IMAGENET_STD)
