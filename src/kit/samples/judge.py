"""A classifier that judges generated images. It is trained on the training images of the generator."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation

from kit.samples.images import from_uint8
from kit.training.schedule import WarmupCosine

BATCH_SIZE, MIN_STEPS = 64, 200  # the batch size and the smallest number of steps in training
CHUNK = 500  # the number of images that are classified at a time


def make_trunk(
    in_channels: int, widths: Sequence[int], depths: Sequence[int], stem_stride: int, stem_kernel: int = 3
) -> nn.Sequential:
    """Return a copy of the trunk in the project's `cnn.py`. Changes of `cnn.py` must not change the judge.

    It maps Float[B C H W] to the feature maps of the last level, Float[B D h w].

    Args:
        in_channels: the number of channels of an image, C.
        widths: the channels of each level. Each level but the first halves the image.
        depths: the number of blocks of each level.
        stem_stride, stem_kernel: the stride and the kernel size of the first convolution.
    """
    levels = nn.Sequential()
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        kernel_size, stride = (3, 2) if level else (stem_kernel, stem_stride)
        first = Conv2dNormActivation(in_channels, width, kernel_size, stride)
        levels.append(nn.Sequential(first, *(Conv2dNormActivation(width, width) for _ in range(depth - 1))))
        in_channels = width
    return nn.Sequential(OrderedDict(levels=levels))


class Judge(nn.Module):
    """Map images from -1 to 1, Float[B C H W], to logits, Float[B K]."""

    def __init__(self, num_classes: int, in_channels: int, size: Sequence[int]) -> None:
        super().__init__()
        stride = 1 if min(size) < 16 else 2 if min(size) < 64 else 4
        self.trunk = make_trunk(in_channels, (32, 64, 128), (2, 2, 2), stride)
        self.head = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the trunk's features, averaged over each image, Float[B 128]."""
        return self.trunk(images).mean((2, 3))

    @torch.no_grad()
    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features, Double[N 128], and the predicted classes, Long[N], of images, on the CPU.

        Args:
            images: uint8 [N C H W].
        """
        device = self.head.weight.device
        features = [self.features(from_uint8(part.to(device))) for part in images.split(CHUNK)]
        classes = [self.head(part).argmax(1).cpu() for part in features]
        return torch.cat(features).cpu().double(), torch.cat(classes)


# A test calls this, and Lightning disables gradients in a test.
@torch.inference_mode(False)
@torch.enable_grad()
def train_judge(images: Tensor, labels: Tensor, num_classes: int, device: torch.device) -> Judge:
    """Train a judge for one epoch, but at least for `MIN_STEPS` steps.

    Longer training would make the features equal for all images of a class (Papyan et al. 2020, neural collapse), so
    that they could not show whether samples vary. The result depends only on the arguments, and the random state of the
    run does not change.

    Args:
        images: uint8 [N C H W].
        labels: Long[N].
        num_classes: the number of classes.
        device: the device to train on.
    """
    print(f"training a classifier that judges samples, on {len(images):,} images", flush=True)
    batch_size = min(BATCH_SIZE, len(images))
    steps_of_epoch = len(images) // batch_size
    steps = max(steps_of_epoch, MIN_STEPS)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        judge = Judge(num_classes, images.shape[1], images.shape[2:]).to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(judge.parameters(), lr=0.003, weight_decay=0.05)
        schedule = WarmupCosine(optimizer, steps)
        epochs = range(math.ceil(steps / steps_of_epoch))
        all_indices = torch.cat([torch.randperm(len(images))[: steps_of_epoch * batch_size] for _ in epochs])
        for indices in all_indices.split(batch_size)[:steps]:
            loss = F.cross_entropy(judge(from_uint8(images[indices].to(device))), labels[indices].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval().requires_grad_(False)
