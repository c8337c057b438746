"""An exported file against PyTorch: on a hundred real images the answers, and on one image at a time the latency.

    python benchmarks/export.py [--data FOLDER] [--images 100] [--epochs 2] [--only NAME ...] [--keep RUNS]

Trains each task's default config for a few epochs, and with `--data` those of MNIST (FOLDER/mnist), BCCD
(FOLDER/bccd/BCCD) and CamVid (FOLDER/camvid); exports; and tells, over the images of the test split (val where there is
none): the images whose class is the same, of the boxes of either those that have one of the same class in the other, at
an IoU of 0.99 and with a score within 0.01, and the pixels of the same class; and of as many samples of a generator the
equal pixels. Latencies are medians for one image on the CPU, from decoded pixels (or noise) to the answer, in turns,
with one thread each if OMP_NUM_THREADS=1 says so.
Wanted: all of the classes and boxes, 0.999 of the pixels (of samples, none that differs by more than 1 of 255), and a
ratio of at most 1.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from kit.checkpoints import checkpoint
from kit.cli import process, verbs
from kit.exporting import agreement, command
from kit.exporting.graph import Run, open_onnx, write_onnx
from kit.prediction import load

TURNS = 5  # of timing the file and PyTorch
REPOSITORY = Path(__file__).resolve().parent.parent
EMBEDDED = ("classification", "detection", "segmentation", "generation")
WITH_DATA = {
    "classification_mnist": ("mnist", ["--trainer.limit_train_batches", "200"]),
    "detection_bccd": ("bccd/BCCD", []),
    "segmentation_camvid": ("camvid", []),
}
HEAD = f"{'config':24} {'images':>6} {'same':>8} {'largest':>9} {'file ms':>8} {'torch ms':>8} {'ratio':>6}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--keep", type=Path, help="a folder of runs, which are trained where they are missing")
    chosen = parser.parse_args()
    process.quiet()
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    configs = [name for name in (*EMBEDDED, *(WITH_DATA if chosen.data else [])) if _config(name).is_file()]
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in configs:
            if chosen.only and name not in chosen.only:
                continue
            run = _run(name, chosen.data, chosen.epochs, chosen.keep or Path(temporary))
            print(_row(name, run, chosen.images, Path(temporary)), flush=True)


def _config(name: str) -> Path:
    return REPOSITORY / f"configs/{name}.yaml"


def _run(name: str, data: Path | None, epochs: int, folder: Path) -> Path:
    run = folder / name / "version_0"
    if (run / "checkpoints" / "best.ckpt").is_file():
        return run
    args = ["--config", str(_config(name)), "--trainer.default_root_dir", str(folder)]
    args += ["--trainer.max_epochs", str(epochs), "--trainer.check_val_every_n_epoch", "1", "--check", "off"]
    if name in WITH_DATA:
        place, more = WITH_DATA[name]
        args += ["--data.root", str((data / place).absolute()), *more]
    with contextlib.redirect_stdout(io.StringIO()):
        verbs.fit(args)
    return run


def _row(name: str, run_folder: Path, count: int, folder: Path) -> str:
    file = checkpoint.find(str(run_folder))
    model = load(file, "cpu")
    task: Any = model.task
    exported = task.exported()
    made = folder / f"{name}.onnx"
    write_onnx(model.preprocessing, exported, command.metadata(model, exported), made)
    run = open_onnx(made)
    if model.takes_images:
        cases = agreement.image_cases(model, *agreement.read_images(file, model.preprocessing, count))
    else:
        cases = agreement.generation_cases(model, exported, count)
    largest, _ = agreement.compare(run, exported, cases)
    same, of = 0.0, 0.0
    for case in cases.single:
        mine, all_of_them = _same(exported, run(*case), cases.expected(*case))
        same, of = same + mine, of + all_of_them
    share = same / of if of else float("nan")
    file_ms, torch_ms = _latencies(run, cases)
    return (
        f"{name:24} {len(cases.single):6} {share:8.5f} {largest:9.2g} {file_ms:8.2f} {torch_ms:8.2f} "
        f"{file_ms / torch_ms:6.2f}"
    )


def _latencies(run: Run, cases: agreement.Cases) -> tuple[float, float]:
    """Return the median time for the first image on the CPU in milliseconds, of the file and of PyTorch.

    They are timed in turns, so that other programs on the machine slow down both.
    """
    inputs = cases.single[0]
    works, threads = (partial(run, *inputs), partial(cases.expected, *inputs)), torch.get_num_threads()
    timers = [Timer("work()", globals={"work": work}, num_threads=threads) for work in works]
    seconds = [[timer.blocked_autorange().median for timer in timers] for _ in range(TURNS)]
    of_file, of_torch = (statistics.median(column) for column in zip(*seconds, strict=True))
    return 1000 * of_file, 1000 * of_torch


def _same(exported: Any, found: dict[str, Tensor], predicted: Any) -> tuple[float, float]:
    """How many classes, boxes or pixels are the same, and of how many."""
    if exported.task == "classification":
        return float(found["probabilities"][0].argmax() == predicted.probabilities.argmax()), 1
    if exported.task == "generation":
        return float((found["images"][0].permute(2, 0, 1) == predicted).sum()), predicted.numel()
    if exported.task == "segmentation":
        return float((found["masks"][0] == predicted).sum()), predicted.numel()
    distances = exported.distances(found, predicted)
    return float((distances <= exported.tolerance).sum()), len(distances)


if __name__ == "__main__":
    main()
