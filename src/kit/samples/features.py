"""Trained features, in which images are compared: their maps at several depths."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kit.checkpoints import checkpoint
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError, did_you_mean
from kit.samples.network import Trunk
from kit.training.weights import load_weights

LEVEL = "net.trunk.levels.{}.{}.0.weight"  # of a run's checkpoint: the convolution of a level's block
IMAGENET = (
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
)  # the mean and std of what torchvision's weights were trained on
UNTRAINED = "features of an untrained net know colours and no strokes"


class Trained(nn.Module):
    """What features are loaded into: images of -1 to 1 to maps. It is never trained, and no part of a checkpoint."""

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, torch.tensor(mean), torch.tensor(std)
        self.to(memory_format=torch.channels_last)  # the faster layout on most processors
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Float[B C H W] each, the shallowest first."""
        mean, std = (values.to(images).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return self.net(((images + 1) / 2 - mean) / std)


class Features(ABC):
    """Which features are meant; they are loaded where they are needed: not to use a trained model."""

    @abstractmethod
    def load(self, in_channels: int) -> Trained:
        """
        Raises:
            UserError: there are none, they are not trained, or not for so many channels.
        """


class FirstOfEachLevel(nn.Module):
    """A trunk's maps after the first block of each level, where they are finest."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for level in self.trunk.levels[:-1]:
            maps.append(level[0](images))
            images = level[1:](maps[-1])
        return [*maps, self.trunk.levels[-1][0](images)]


class ClassifierFeatures(Features):
    """Features of a classifier with the template's own CNN that was trained before: nothing is downloaded.

    Args:
        run: its run folder, or a checkpoint file.
    """

    def __init__(self, run: str) -> None:
        self.run = run

    def load(self, in_channels: int) -> Trained:
        try:
            file = checkpoint.find(self.run)
        except UserError as error:
            raise UserError(f"model.features.run: {error}; train a classifier first, or take its folder") from None
        content = checkpoint.read(file)  # plain values and tensors: nothing that it names is made
        tensors = content.get("state_dict")
        if not content.get("global_step"):
            raise UserError(f"{file} is untrained, and {UNTRAINED}: train it first")
        try:
            widths, depths = _widths_and_depths(tensors)
            with Budget(tensors, file):
                trunk = Trunk(tensors[LEVEL.format(0, 0)].shape[1], widths, depths, _stem_stride(content))
            own = {name: tensors[f"net.trunk.{name}"] for name in trunk.state_dict()}
            trunk.load_state_dict(own)
            mean, std, channels = _taught(content)
            made = Trained(FirstOfEachLevel(trunk), mean, std)
        except (AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError):
            raise UserError(f"{file} is no classifier with the template's own CNN, whose features are needed") from None
        if channels != in_channels:
            raise UserError(f"{file} is of images with {channels} channel(s), but there are {in_channels} here")
        return made


def _widths_and_depths(tensors: dict[str, Tensor]) -> tuple[list[int], list[int]]:
    widths, depths = [], []
    while LEVEL.format(len(widths), 0) in tensors:
        level = len(widths)
        widths.append(int(tensors[LEVEL.format(level, 0)].shape[0]))
        depths.append(next(block for block in range(1, 1000) if LEVEL.format(level, block) not in tensors))
    return widths, depths


def _taught(content: dict[str, Any]) -> tuple[list[float], list[float], int]:
    """The mean, the standard deviation and the number of channels, as the data module left them."""
    wanted = ("mean", "std", "in_channels")
    found = next(part for part in content.values() if isinstance(part, dict) and all(key in part for key in wanted))
    return found["mean"], found["std"], found["in_channels"]


def _stem_stride(content: dict[str, Any]) -> int:
    return int(content["hyper_parameters"]["net"].get("init_args", {}).get("stem_stride", 1))


class Taps(nn.Module):
    """A chain of layers, and what comes out of some of them."""

    def __init__(self, layers: nn.Sequential, places: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.places = layers, set(places)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for place, layer in enumerate(self.layers):
            images = layer(images)
            if place in self.places:
                maps.append(images)
        return maps


class TorchvisionFeatures(Features):
    """Of a net of torchvision with a `features` part: VGG (as in the paper), MobileNet, EfficientNet, ConvNeXt, ...

    Args:
        name: its name there.
        weights: a file of its weights.
        pretrained: torchvision's own weights, downloaded once.
        taps: places in `features` whose outputs are compared; by default those of Johnson et al. in VGG-16, and else
            four that are evenly spaced.
    """

    def __init__(
        self, name: str = "vgg16", weights: str | None = None, pretrained: bool = False, taps: list[int] | None = None
    ) -> None:
        self.name, self.weights, self.pretrained, self.taps = name, weights, pretrained, taps

    def load(self, in_channels: int) -> Trained:
        from torchvision import models

        if not self.weights and not self.pretrained:
            raise UserError(f"{UNTRAINED}: give model.features.weights FILE, or model.features.pretrained true")
        known = models.list_models(module=models)
        if self.name not in known:
            raise UserError(f"torchvision has no model '{self.name}'{did_you_mean(self.name, known)}")
        if in_channels != len(IMAGENET[0]):
            raise UserError(f"torchvision's nets are for 3 channels, but there are {in_channels} here")
        net = models.get_model(self.name, weights=None if self.weights else "DEFAULT")
        layers = getattr(net, "features", None)
        if not isinstance(layers, nn.Sequential):
            raise UserError(f"torchvision's {self.name} has no `features`; vgg16 and mobilenet_v3_small have")
        taps = self._usual(len(layers)) if self.taps is None else self.taps
        if not taps or not all(0 <= place < len(layers) for place in taps):
            raise UserError(f"model.features.taps is {taps}, but `features` of {self.name} has 0 to {len(layers) - 1}")
        if self.weights:
            load_weights(net, self.weights, head="classifier")
        return Trained(Taps(_without_inplace(layers), taps), *IMAGENET)

    def _usual(self, layers: int) -> list[int]:
        if self.name == "vgg16":
            return [3, 8, 15, 22]  # relu1_2, relu2_2, relu3_3, relu4_3
        return [layers * (place + 1) // 5 for place in range(4)]


def _without_inplace(net: nn.Sequential) -> nn.Sequential:
    """A map that was tapped must not be changed by the next layer."""
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net
