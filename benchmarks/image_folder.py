"""Loading speed of image files: the template's `ImageFolder` against torchvision's, with as many workers.

    python benchmarks/image_folder.py [--images FOLDER] [--workers 2] [--rounds 5]

640x480 JPEGs (made by seed, or FOLDER/CLASS/*.jpg) to 128x128, flipped, as normalised float batches. Wanted: at least
2 times torchvision's speed uncached, 8 times from the cache. Cached images are read with the template's own number of
workers (none, on a processor: fetching takes less time than handing over).
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import project  # noqa: F401  before torch, as the verbs do: it sets how torch's threads wait

# isort: split
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, io, transforms
from torchvision.transforms import v2

from project.classification import ImageFolder

SIZE = (128, 128)
IMAGES, CLASSES = 400, 4
WANTED = {"torchvision": "", "none": ">= 2", "ram": ">= 8", "disk": ">= 8"}


def write_images(root: Path, links: int) -> None:
    """JPEGs as heavy to decode as photographs (about 100 kB): smooth fields of several scales, and some noise.

    Each has `links` names: an epoch has to be long for its start not to count.
    """
    generator = torch.Generator().manual_seed(0)
    for number in range(IMAGES):
        image = torch.full((1, 3, 480, 640), 128.0)
        for cells, amplitude in ((4, 60), (16, 25), (64, 12)):
            field = torch.randn(1, 3, cells * 3 // 4, cells, generator=generator)
            image += amplitude * F.interpolate(field, (480, 640), mode="bicubic")
        image += 3 * torch.randn(image.shape, generator=generator)
        folder = root / f"class_{number % CLASSES}"
        folder.mkdir(exist_ok=True)
        file = folder / f"{number}_0.jpg"
        io.write_jpeg(image[0].clamp(0, 255).byte(), str(file), quality=90)
        for link in range(1, links):
            os.link(file, folder / f"{number}_{link}.jpg")


def torchvision_loader(root: Path, batch_size: int, workers: int) -> DataLoader:
    chain = [
        transforms.Resize(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    return DataLoader(
        datasets.ImageFolder(root, transforms.Compose(chain)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )


def template_loader(root: Path, batch_size: int, workers: int | None, **caching: str) -> tuple[DataLoader, Callable]:
    flip = [v2.RandomHorizontalFlip()]
    data = ImageFolder(str(root), image_size=SIZE, batch_size=batch_size, augment=flip, num_workers=workers, **caching)
    data.setup("fit")
    return data.train_dataloader(), lambda batch: data.on_after_batch_transfer(batch, 0)


def images_per_second(loader: DataLoader, finish: Callable, passes: int = 1) -> float:
    """From the first batch's arrival to the last one's, normalisation included."""
    images, seconds = 0, 0.0
    for _ in range(passes):
        for number, batch in enumerate(loader):
            floats: Tensor = finish(batch)[0]
            if number == 0:
                started = time.perf_counter()
            else:
                images += len(floats)
        seconds += time.perf_counter() - started
    if not images:
        raise SystemExit("too few images: there is no second batch (--batch_size)")
    return images / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of class folders, instead of made images")
    parser.add_argument("--workers", type=int, default=2, help="of each loader (2)")
    parser.add_argument("--batch_size", type=int, default=64, help="(64)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each, in turns (5)")
    parser.add_argument("--links", type=int, default=8, help=f"names of each of the {IMAGES} made images (8)")
    options = parser.parse_args()
    sizes = options.batch_size, options.workers

    with tempfile.TemporaryDirectory() as folder:
        root = options.images or Path(folder) / "images"
        if not options.images:
            root.mkdir()
            write_images(root, options.links)
        loaders = {"torchvision": (torchvision_loader(root, *sizes), lambda batch: batch)}
        for cache in ("none", "ram", "disk"):
            workers = options.workers if cache == "none" else None
            caching = {"cache": cache, "cache_dir": f"{folder}/cache"}
            loaders[cache] = template_loader(root, options.batch_size, workers, **caching)
        for loader in loaders.values():
            images_per_second(*loader)  # starts the workers, which persist, and warms the page cache
        # A pass from the cache takes a tenth of the time, so there are more of them in a round.
        passes = {"torchvision": 1, "none": 1, "ram": 5, "disk": 5}
        rounds = [{n: images_per_second(*loaders[n], passes[n]) for n in loaders} for _ in range(options.rounds)]
        del loaders, loader  # ends the workers while the files are still there

    print(f"{'':20}{'images/s':>10}{'ratio':>8}   wanted")
    for name, wanted in WANTED.items():
        speed = statistics.median(speeds[name] for speeds in rounds)
        ratio = statistics.median(speeds[name] / speeds["torchvision"] for speeds in rounds)
        label = name if name == "torchvision" else f"template, cache {name}"
        print(f"{label:20}{speed:10,.0f}{ratio:8.2f}   {wanted}".rstrip())


if __name__ == "__main__":
    main()
