"""Training speed of detection and segmentation against a plain loop in the manner of torchvision's references.

    python benchmarks/tasks.py [--rounds 3] [--steps 40] [--task detection]

Both train the net of configs/detection_bccd.yaml, or of segmentation_camvid.yaml, on the same made JPEGs of 640x480,
each in a process of its own, in turns. The plain loop is what the references do: files decoded by PIL in the
DataLoader's workers, augmented, as float batches; torchvision's own resizing and normalisation inside the detector.
Wanted: a ratio of at least 1.3 in detection and 1.2 in segmentation.
"""

import argparse
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import lightning as L
import torch
import yaml
from PIL import Image
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, default_collate
from torchvision import io, tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from kit.cli import command_line as cli
from kit.cli import process
from kit.training.schedule import WarmupCosine

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = {"detection": "detection_bccd", "segmentation": "segmentation_camvid"}
WANTED = {"detection": 1.3, "segmentation": 1.2}
IMAGES, CLASSES, SIZE, CROP = 128, 3, (240, 320), (128, 176)
XML = "<annotation><size><width>640</width><height>480</height></size>{}</annotation>"
FLOAT = v2.ToDtype(torch.float, scale=True)
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def write_scenes(root: Path) -> None:
    """Smooth fields with ten rectangles each: as VOC's files, and as the same images with masks."""
    generator = torch.Generator().manual_seed(0)
    folders = [root / name for name in ("voc/JPEGImages", "voc/Annotations", "masks/train", "masks/trainannot")]
    for folder in [*folders, root / "masks/val", root / "masks/valannot"]:
        folder.mkdir(parents=True)
    (root / "masks/classes.txt").write_text("\n".join(f"class_{k}" for k in range(CLASSES + 1)))
    for number in range(IMAGES):
        field = F.interpolate(torch.randn(1, 3, 12, 16, generator=generator), (480, 640), mode="bicubic")[0]
        image, mask, objects = 128 + 40 * field, torch.zeros(480, 640, dtype=torch.uint8), ""
        for _ in range(10):
            x, y, w, h, k = (int(torch.randint(high, (), generator=generator)) for high in (560, 400, 60, 60, CLASSES))
            image[:, y : y + h + 20, x : x + w + 20] += 40 * (k - 1) + 20
            mask[y : y + h + 20, x : x + w + 20] = k + 1
            objects += OBJECT.format(f"class_{k}", x, y, x + w + 20, y + h + 20)
        part = "val" if number % 10 == 0 else "train"
        for file in (root / f"voc/JPEGImages/{number}.jpg", root / f"masks/{part}/{number}.jpg"):
            io.write_jpeg(image.clamp(0, 255).byte(), str(file), quality=90)
        (root / f"voc/Annotations/{number}.xml").write_text(XML.format(objects))
        Image.fromarray(mask.numpy()).save(root / f"masks/{part}annot/{number}.png")


def plain(task: str, root: Path, steps: int, skip: int) -> float:
    """Images a second of the plain loop, the first `skip` steps left out."""
    config = yaml.safe_load((REPOSITORY / f"configs/{CONFIGS[task]}.yaml").read_text())
    model, batch_size = config["model"]["init_args"], config["data"]["init_args"]["batch_size"]
    classes = CLASSES if task == "detection" else CLASSES + 1
    net = _named(model["net"]["class_path"])(num_classes=classes, in_channels=3, **model["net"]["init_args"])
    if task == "detection":
        net.transform = GeneralizedRCNNTransform(SIZE[0], SIZE[1], [0.5] * 3, [0.25] * 3, size_divisible=16)
    optimizer = _named(model["optimizer"]["class_path"])(net.parameters(), **model["optimizer"]["init_args"])
    schedule = WarmupCosine(optimizer, steps)
    scenes = Boxes(root) if task == "detection" else Masks(root)
    loader = DataLoader(scenes, batch_size, shuffle=True, num_workers=2, collate_fn=scenes.collate, drop_last=True)
    net.train()
    for step, (images, targets) in zip(range(steps), _again_and_again(loader), strict=False):
        if step == skip:
            started = time.perf_counter()
        if task == "detection":
            loss = sum(net(images, targets).values())
        else:
            loss = F.cross_entropy(net(images), targets, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return batch_size * (steps - skip) / (time.perf_counter() - started)


class Boxes:
    """VOC's files one at a time, decoded by PIL, as torchvision's own data set reads them."""

    def __init__(self, root: Path) -> None:
        self.files = sorted((root / "voc/JPEGImages").iterdir())
        self.chain = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), FLOAT])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        file = self.files[index]
        tree = ElementTree.parse(file.parent.parent / f"Annotations/{file.stem}.xml").getroot()
        corners = [[float(side.text) for side in box] for box in tree.iter("bndbox")]
        labels = torch.tensor([int(name.text[-1]) + 1 for name in tree.iter("name")])
        boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(480, 640))
        image = tv_tensors.Image(v2.functional.pil_to_tensor(Image.open(file).convert("RGB")))
        return self.chain(image, {"boxes": boxes, "labels": labels})

    @staticmethod
    def collate(samples):
        return tuple(zip(*samples, strict=True))


class Masks:
    """Images and masks one at a time: a random size, flips and a crop, then floats, as the references have it."""

    def __init__(self, root: Path) -> None:
        self.files = sorted((root / "masks/train").iterdir())
        crop = v2.RandomCrop(CROP, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255})
        sizes = v2.RandomResize(int(0.75 * SIZE[0]), int(1.5 * SIZE[0]))
        normalise = v2.Normalize([0.5] * 3, [0.25] * 3)
        self.chain = v2.Compose([v2.Resize(SIZE), sizes, v2.RandomHorizontalFlip(), crop, FLOAT, normalise])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        file = self.files[index]
        mask = tv_tensors.Mask(
            v2.functional.pil_to_tensor(Image.open(file.parent.parent / f"trainannot/{file.stem}.png"))
        )
        image = tv_tensors.Image(v2.functional.pil_to_tensor(Image.open(file).convert("RGB")))
        image, mask = self.chain(image, mask)
        return image, mask[0].long()

    @staticmethod
    def collate(samples):
        return default_collate(samples)


def template(task: str, root: Path, steps: int, skip: int) -> float:
    """The same of what `python -m project.fit` builds, default callbacks and TensorBoard included."""
    process.prepare()
    times = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *_) -> None:
            times.append(time.perf_counter())

    data = "voc" if task == "detection" else "masks"
    options = {"--config": REPOSITORY / f"configs/{CONFIGS[task]}.yaml", "--data.root": root / data, "--name": "speed"}
    options |= {"--trainer.default_root_dir": root / "runs", "--trainer.max_steps": steps, "--trainer.max_epochs": -1}
    options |= {"--trainer.limit_val_batches": 0, "--data.image_size": list(SIZE), "--check": "off"}
    options |= {"--auto_precision": "false"}
    run = cli.CLI([str(part) for pair in options.items() for part in pair])
    run.trainer.callbacks.append(Clock())
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert len(times) == steps, f"the template made {len(times)} steps, not {steps}"
    return run.datamodule.batch_size * (steps - skip) / (times[-1] - times[skip - 1])


def _again_and_again(loader: DataLoader) -> Iterator:
    while True:
        yield from loader


def _named(path: str):
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def measure(which: str, task: str, root: Path, options: argparse.Namespace) -> float:
    numbers = ["--steps", options.steps, "--skip", options.skip, "--root", root, "--task", task]
    command = [sys.executable, __file__, "--only", which, *map(str, numbers)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (3)")
    parser.add_argument("--steps", type=int, default=40, help="of each measurement (40)")
    parser.add_argument("--skip", type=int, default=10, help="first steps left out (10), at least 1")
    parser.add_argument("--task", choices=list(CONFIGS), help="one of them, instead of all that are here")
    parser.add_argument("--only", choices=["plain", "template"], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print((plain if options.only == "plain" else template)(options.task, options.root, options.steps, options.skip))
        return
    tasks = [options.task] if options.task else [t for t in CONFIGS if (REPOSITORY / f"src/project/{t}").is_dir()]
    print(f"{'images/s':14}{'template':>12}{'plain':>12}{'ratio':>9}   wanted")
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder))
        for task in tasks:
            names = ("template", "plain")
            pairs = [[measure(w, task, Path(folder), options) for w in names] for _ in range(options.rounds)]
            ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
            print(f"{task:14}{ours:12.1f}{theirs:12.1f}{ratio:9.2f}   >= {WANTED[task]}")


if __name__ == "__main__":
    main()
