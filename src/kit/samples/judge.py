"""A classifier that judges images: it learned its features of the same real ones."""

import math
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.ground.checkpoint_limits import require_stored
from kit.ground.files import replacing
from kit.samples.network import Trunk
from kit.samples.pictures import floats
from kit.training.schedule import WarmupCosine

VERSION = 2  # of the files: a judge of another version is trained again
BATCH, LEAST = 64, 200  # images in a step; the least number of steps
AT_ONCE = 500  # images in a batch of evaluation
SAME_ACCURACY = 0.02  # by how much the accuracy of one judge may differ between processors


class Judge(nn.Module):
    """Float[B C H W] from -1 to 1 to the logits of K classes, Float[B K]."""

    def __init__(self, num_classes: int, in_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        stride = 1 if min(size) < 16 else 2 if min(size) < 64 else 4
        self.trunk = Trunk(in_channels, (32, 64, 128), stem_stride=stride)
        self.head = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Float[B 128], averaged over the image: the last before the classes."""
        return self.trunk(images)[-1].mean((2, 3))

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, Float[N 128] in double precision, and classes, Long[N], of uint8 [N C H W]; on the CPU."""
        device = self.head.weight.device
        found = [self.features(floats(some.to(device))) for some in images.split(AT_ONCE)]
        classes = [self.head(features).argmax(1).cpu() for features in found]
        return torch.cat(found).cpu().double(), torch.cat(classes)


@torch.inference_mode(False)
def trained(images: Tensor, labels: Tensor, num_classes: int, folder: Path, device: torch.device) -> Judge:
    """Return a judge that was trained on images, uint8 [N C H W], and labels, Long[N].

    It is kept in `folder`, where the next run finds it. It depends only on these arguments: none of the run's random
    numbers are drawn.
    """
    shape = "x".join(map(str, images.shape))
    file = folder / f"judge{VERSION}_{shape}_{num_classes}_{_checksum(images, labels):08x}.pt"
    sample = torch.linspace(0, len(images) - 1, min(AT_ONCE, len(images))).long()
    with torch.random.fork_rng(devices=[]):
        judge = _kept(file, images, labels, num_classes, sample)
        if judge is None:
            why = f"{file} is damaged" if file.exists() else f"it is kept in {file}"
            print(f"training a classifier that judges samples, on {len(images):,} images ({why})", flush=True)
            torch.default_generator.manual_seed(0)
            judge = _new(images, num_classes)
            _train(judge.to(device), images, labels)
            accuracy = _accuracy(judge.cpu().eval(), images[sample], labels[sample])
            if accuracy is not None:
                with replacing(file) as part:
                    torch.save({"weights": judge.state_dict(), "accuracy": accuracy}, part)
    return judge.to(device).eval().requires_grad_(False)


def _kept(file: Path, images: Tensor, labels: Tensor, num_classes: int, sample: Tensor) -> Judge | None:
    """Return the judge in a file.

    Args:
        sample: the places of the images, Long[M], on which its accuracy is measured again.

    Returns:
        None if there is no such file, it is damaged, or the judge's accuracy is not what it was when it was kept
    """
    try:
        require_stored(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        judge = _new(images, num_classes).eval()
        judge.load_state_dict(content["weights"])
        accuracy = _accuracy(judge, images[sample], labels[sample])
        return judge if accuracy is not None and abs(accuracy - content["accuracy"]) <= SAME_ACCURACY else None
    except Exception:  # a damaged file may raise anything
        return None


def _accuracy(judge: Judge, images: Tensor, labels: Tensor) -> float | None:
    """Return the share of images that are classified correctly; None if the features are not finite, or are all alike.

    If the features of all images are alike, samples and real images have the same, and their distance is perfect.
    """
    features, classes = judge.look(images)
    if not features.isfinite().all() or (len(images) > 1 and features.std(0).max() == 0):
        return None
    return (classes == labels).double().mean().item()


def _new(images: Tensor, num_classes: int) -> Judge:
    size = (int(images.shape[2]), int(images.shape[3]))
    return Judge(num_classes, images.shape[1], size).to(memory_format=torch.channels_last)


@torch.enable_grad()
def _train(judge: Judge, images: Tensor, labels: Tensor) -> None:
    """One epoch, or `LEAST` steps if that is more: enough to know the classes, and no longer: then its
    features grow alike within a class (Papyan et al. 2020, neural collapse), and it no longer sees whether samples do.
    """
    device, batch = judge.head.weight.device, min(BATCH, len(images))
    of_epoch = len(images) // batch
    steps = max(of_epoch, LEAST)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=0.003, weight_decay=0.05)
    schedule = WarmupCosine(optimizer, steps)
    order = torch.cat([torch.randperm(len(images))[: of_epoch * batch] for _ in range(math.ceil(steps / of_epoch))])
    for places in order.split(batch)[:steps]:
        loss = F.cross_entropy(judge(floats(images[places].to(device))), labels[places].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _checksum(images: Tensor, labels: Tensor) -> int:
    return zlib.crc32(labels.contiguous().numpy().tobytes(), zlib.crc32(images.contiguous().numpy().tobytes()))
