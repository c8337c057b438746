"""Costs that once grew too fast: with the classes, the images, the boxes, the pixels and the options.

    python benchmarks/growth.py [--only NAME ...] [--side 20000]

    classes      validation of a classifier with 10,000 classes
    duplicates   `check` of 10,000 and of 20,000 photographs of a camera that does not move
    report       what a run with 10,000 classes prints and logs at its end
    coco         `fit` with COCO's format, 100,000 images and 800,000 boxes, until the first training step
    predict      masks of a PNG of 20,000 x 20,000 pixels
    help         `fit --help`

Each case is measured in processes of its own: the time on the clock, the CPU time of all processes, and the peak of
their memory together (PSS, which counts shared memory once). All data are made here. The disk needs 1 GB, and the
memory 10 GB for `predict`; a smaller `--side` needs less.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
CLASSES, IMAGES, BOXES, FRAMES = 10_000, 100_000, 8, 20_000
BATCH, BATCHES = 64, 20
SECONDS_BETWEEN_SAMPLES = 0.2

# In a file of its own, for the run to find by class path.
FIRST_STEP = """
import os
import lightning as L

class FirstStep(L.Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)
"""


class Usage(NamedTuple):
    """What a command took, and what it printed. memory: bytes."""

    seconds: float
    cpu_seconds: float
    memory: int
    code: int
    output: str


Row = tuple[str, float, float | None]  # a figure's name, its value, and the largest wanted value


def measure(*arguments: object, folder: Path) -> Usage:
    """Run Python in the repository. `folder` gets the output, and is searched for modules."""
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, "PYTHONPATH": paths}
    started, cpu_seconds, memory = time.monotonic(), 0.0, 0
    with (folder / "output.txt").open("w+") as output:
        child = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
        while child.poll() is None:
            processes = list(tree(child.pid))
            memory = max(memory, sum(map(pss, processes)))
            cpu_seconds = max(cpu_seconds, sum(map(cpu, processes)))
            time.sleep(SECONDS_BETWEEN_SAMPLES)
        seconds = time.monotonic() - started
        output.seek(0)
        return Usage(seconds, cpu_seconds, memory, child.returncode, output.read())


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in read(file).split():
            yield from tree(int(child))


def pss(pid: int) -> int:
    lines = [line.split() for line in read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()]
    return sum(1024 * int(line[1]) for line in lines if line[0] == "Pss:")


def cpu(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process has ended
        return ""


def require(usage: Usage, *codes: int) -> Usage:
    if usage.code not in codes:
        print(usage.output, file=sys.stderr)
        sys.exit(usage.code or 1)
    return usage


def classes(folder: Path, _: int) -> list[Row]:
    usage = require(measure(__file__, "--child", folder=folder), 0)
    return [
        ("ms a batch of 64", float(usage.output.split()[-1]), 5),
        ("GB", usage.memory / 1e9, None),
    ]


def validation() -> None:
    """Print the milliseconds that a batch takes in the evaluation, with metrics and charts shared by all batches."""
    import torch

    from kit.labels.evaluation import LabelEvaluation

    torch.set_num_threads(1)
    logits, targets = torch.randn(BATCH, CLASSES), torch.randint(CLASSES, (BATCH,))
    for _ in range(2):  # the first round is slower
        evaluation, started = LabelEvaluation([str(k) for k in range(CLASSES)]), time.process_time()
        for batch in range(BATCHES):
            evaluation.update(torch.arange(BATCH) + batch * BATCH, logits, targets)
        evaluation.compute(by_class=True)
        evaluation.charts()
    print(1000 * (time.process_time() - started) / BATCHES)


def duplicates(folder: Path, _: int) -> list[Row]:
    random = np.random.default_rng(0)
    scene = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120))
    usages = []
    for count in (FRAMES // 2, FRAMES):
        root = folder / str(count)
        for number in range(count):
            frame = np.array(scene)
            y, x = random.integers(0, (100, 140))
            frame[y : y + 20, x : x + 20] = random.integers(0, 256, 3)  # something passes by
            split = "val" if number % 10 == 9 else "train"
            save(root / split / "ab"[number % 2] / f"{number:06}.jpg", as_jpeg(frame))
        config = REPOSITORY / "configs/classification_folder.yaml"
        arguments = "--config", config, "--data.root", root, "--json", folder / "faults.json"
        usages.append(require(measure("-m", "project.check", *arguments, folder=folder), 1))
    half, whole = usages
    return [
        ("s", whole.seconds, None),
        ("CPU s", whole.cpu_seconds, None),
        ("CPU s, of half as many images", half.cpu_seconds, None),
        ("GB", whole.memory / 1e9, 1),
        ("GB, of half as many images", half.memory / 1e9, None),
        ("faults, at most two for an image", len(json.loads((folder / "faults.json").read_text())), 2 * FRAMES),
    ]


def report(folder: Path, _: int) -> list[Row]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for split in ("train", "val"):
        for k in range(CLASSES):
            shade = (k % 250, k // 250 * 6, 0)
            save(folder / "data" / split / f"c{k:05}" / "1.jpg", as_jpeg(np.full((8, 8, 3), shade, np.uint8)))
    config = REPOSITORY / "configs/classification_folder.yaml"
    arguments = "--config", config, "--data.root", folder / "data", "--trainer.default_root_dir", folder / "runs"
    options = "--data.image_size", "[8, 8]", "--data.batch_size", 256, "--data.cache_dir", folder / "cache"
    short = "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--overfitting.enabled", "false"
    usage = require(measure("-m", "project.fit", *arguments, *options, *short, folder=folder), 0)
    run = next(folder.glob("runs/*/version_0"))
    events = EventAccumulator(str(run), {"tensors": 0}).Reload()
    text = events.Tensors("report/text_summary")[-1].tensor_proto.string_val[0].decode()
    in_file = sum(key.count("/") > 1 for key in json.loads((run / "results.json").read_text()))
    return [
        ("s", usage.seconds, None),
        ("CPU s", usage.cpu_seconds, None),
        (
            "lines of the terminal that name a class",
            sum("accuracy/c0" in line for line in usage.output.splitlines()),
            20,
        ),
        ("lines of TensorBoard's text", len(text.splitlines()), 60),
        ("scalars of classes", sum(tag.count("/") > 1 and "/c0" in tag for tag in events.Tags()["scalars"]), 20),
        ("classes in results.json", in_file, None),
    ]


def coco(folder: Path, _: int) -> list[Row]:
    random, root = np.random.default_rng(0), folder / "data" / "train"
    contents = [as_jpeg(random.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(50)]
    images = []
    for i in range(IMAGES):
        # A comment makes each file another one.
        save(root / f"{i:06}.jpg", contents[i % 50][:2] + b"\xff\xfe\x00\x08%06d" % i + contents[i % 50][2:])
        images.append({"id": i, "file_name": f"{i:06}.jpg", "height": 64, "width": 96})
    corners = random.uniform(0, (64, 40), (IMAGES * BOXES, 2)).round(2)
    sides = random.uniform(6, 24, (IMAGES * BOXES, 2)).round(2)
    annotations = [
        {"id": i, "image_id": i // BOXES, "category_id": i % 80, "bbox": bbox, "area": 100.0, "iscrowd": 0}
        for i, bbox in enumerate(np.concatenate([corners, sides], 1).tolist())
    ]
    categories = [{"id": k, "name": f"c{k}"} for k in range(80)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "_annotations.coco.json").write_text(json.dumps(content))
    (folder / "first_step.py").write_text(FIRST_STEP)
    arguments = "--config", REPOSITORY / "configs/detection.yaml", "--data", "project.detection.BoxFolder"
    paths = "--data.root", root.parent, "--data.cache_dir", folder / "cache"
    options = "--data.image_size", "[64, 96]", "--trainer.callbacks", "first_step.FirstStep"
    runs = "--trainer.default_root_dir", folder / "runs"
    usage = require(measure("-m", "project.fit", *arguments, *paths, *options, *runs, folder=folder), 0)
    return [("s", usage.seconds, 40), ("CPU s", usage.cpu_seconds, None), ("GB", usage.memory / 1e9, 2)]


def predict(folder: Path, side: int) -> list[Row]:
    config, runs = REPOSITORY / "configs/segmentation.yaml", folder / "runs"
    options = "--config", config, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1
    limits = "--trainer.limit_val_batches", 1, "--trainer.limit_test_batches", 1, "--overfitting.enabled", "false"
    training = measure("-m", "project.fit", *options, *limits, "--trainer.default_root_dir", runs, folder=folder)
    require(training, 0)
    run = next(runs.glob("*/version_0"))
    patches = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for name, size in (("small", 100), ("large", side)):
        Image.fromarray(patches).resize((size, size)).save(folder / f"{name}.png", compress_level=1)

    def predicted(name: str, *options: object) -> Usage:
        out = "--out", folder / "out", *options
        return measure("-m", "project.predict", run, folder / f"{name}.png", *out, folder=folder)

    base = require(predicted("small"), 0)
    limit = side**2
    refused = predicted("large")
    is_named = refused.code == 1 and f"--max_pixels {limit}" in refused.output
    usage = require(predicted("large", "--max_pixels", limit), 0)
    return [
        ("refusals without the option that do not name it", float(side > 14_000 and not is_named), 0),
        ("s", usage.seconds, None),
        ("GB", usage.memory / 1e9, None),
        ("bytes a pixel", (usage.memory - base.memory) / limit, 20),
    ]


def help(folder: Path, _: int) -> list[Row]:
    usage = require(measure("-m", "project.fit", "--help", folder=folder), 0)
    return [("s", usage.seconds, 1), ("CPU s", usage.cpu_seconds, None), ("lines", usage.output.count("\n"), 60)]


def as_jpeg(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(content := io.BytesIO(), "JPEG", quality=85)
    return content.getvalue()


def save(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


CASES: dict[str, Callable[[Path, int], list[Row]]] = {
    case.__name__: case for case in (classes, duplicates, report, coco, predict, help)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="the cases to measure")
    parser.add_argument("--side", type=int, default=20_000, help="the height and width of `predict`'s image")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        validation()
        return
    print(f"{'case':12}{'figure':50}{'measured':>12}   wanted")
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            for figure, value, most in CASES[name](Path(folder), options.side):
                wanted = "" if most is None else f"<= {most:,}{'' if value <= most else '   MISSED'}"
                print(f"{name:12}{figure:50}{value:12,.2f}   {wanted}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
