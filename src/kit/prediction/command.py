"""The verb `predict`: images to files of results, written as they come."""

import csv
import errno
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tqdm import tqdm

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.config.arguments import apart, option, options
from kit.config.parser import Words
from kit.ground import app
from kit.ground.errors import BrokenFiles, UserError, in_a_line
from kit.ground.files import replacing
from kit.ground.terminal import visible
from kit.ground.threads import in_threads
from kit.prediction import inputs
from kit.prediction.predictor import Predictor, load
from kit.task import as_task

ARGUMENTS = "RUN_OR_CHECKPOINT IMAGES... [--out DIR] [--KEY VALUE ...]"
BROKEN = "broken.csv"
NAMED = 10  # broken images, on the screen; the file has them all
SECONDS_BETWEEN_LINES = 10.0
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}  # no image's fault: all would fail


class Predictions(Protocol):
    """What a task's own `Predictions` does: it writes results into a folder. Its further arguments become options.

    FOLDERS: the folders, below the results' own, that have a file for each image.

    That of a task that takes no images (it has no `predict`) has, instead of `picture`, `add` and `finish`, one method:
    `make(model, batch_size)` writes all with a `Predictor`, and returns what `finish` does.
    """

    FOLDERS: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None: ...

    def picture(self, file: Path, name: str, found: Any) -> None:
        """Writes the files that are an image's own, which `name` is for; called by several threads.

        Raises:
            BrokenFiles: the image cannot be read.
            OSError, ValueError: it cannot be drawn, or what is drawn cannot be written.
        """

    def add(self, file: Path, name: str, found: Any) -> None:
        """Writes what stands in one file for all images; called in their order."""

    def finish(self) -> list[Path]:
        """Gives that file its name; what there is now, files and folders."""


def predict(args: list[str]) -> None:
    """Applies a run's best checkpoint to images.

    Raises:
        BrokenFiles: some could not be read, or drawn; all others have their results.
    """
    words, keys = apart(args)
    if not words:
        if "-h" not in keys and "--help" not in keys:
            raise UserError(f"which run? {_usage()}")
        print(f"usage: {_usage()}\n\nThe keys depend on the run's task: {app.command('predict')} RUN --help")
        return
    checkpoint_file = checkpoint.find(words[0])
    model = load(checkpoint_file, option(keys, "--device"), options(keys, "--trust"))
    kind = as_task(model.task).Predictions
    if kind is None:
        raise UserError(f"{type(model.task).__name__} has no `Predictions`, which say what is written")
    chosen = _parser(kind, model.takes_images).read(keys)
    if chosen.batch_size < 1:
        raise UserError(f"batch_size is {chosen.batch_size}, but must be above 0")
    if model.takes_images and not words[1:]:
        raise UserError(f"which images? {_usage()}")
    if not model.takes_images and words[1:]:
        raise UserError(
            f"{type(model.task).__name__} takes no images, but {words[1]} is given: {_usage(with_images=False)}"
        )
    run = checkpoint.run_of(checkpoint_file)
    folder = Path(chosen.out) if chosen.out else run / "predictions"
    if not chosen.out:
        refuse_links(folder, run)
    files = inputs.find(words[1:], [folder / name for name in kind.FOLDERS]) if model.takes_images else []
    with checkpoint.blamed(checkpoint_file, "cannot be used"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / BROKEN).unlink(missing_ok=True)
            results = kind(folder, model.class_names, **{key: chosen[key] for key in _own(kind)})
            if model.takes_images:
                _write(model, files, chosen.batch_size, results, folder)
            else:
                print(f"made: {', '.join(map(str, results.make(model, chosen.batch_size)))}")
        except OSError as error:
            raise UserError(
                f"{error.filename or folder} cannot be written: {error.strerror or in_a_line(error)}"
            ) from None


def _usage(with_images: bool = True) -> str:
    arguments = ARGUMENTS if with_images else ARGUMENTS.replace("IMAGES... ", "")
    return f"{app.command('predict')} {arguments}"


def _parser(kind: Any, takes_images: bool) -> Words:
    if takes_images:
        parser = Words(
            usage=_usage(), description="Applies a run's best checkpoint to images and writes what it finds."
        )
    else:
        parser = Words(usage=_usage(with_images=False), description="Makes images with a run's best checkpoint.")
    parser.add_argument("--out", type=str | None, default=None, help="the results' folder; RUN/predictions by default")
    parser.add_argument("--batch_size", type=int, default=32, help="images that the net gets at a time")
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, mps; cuda where there is one")
    parser.add_argument("--trust", action="append", default=[], help="use classes of this package, too")
    parser.add_class_arguments(kind, skip={"folder", "class_names"})
    return parser


def _own(kind: type[Predictions]) -> list[str]:
    """The keys that the task's part of the command line has."""
    alone = Words()
    return [key.split(".")[0] for key in alone.add_class_arguments(kind, skip={"folder", "class_names"})]


def _write(model: Predictor, files: Sequence[Path], batch_size: int, results: Predictions, folder: Path) -> None:
    broken: list[tuple[Path, str]] = []
    good = 0

    def pictured(work: tuple[str, tuple[Any, Any]]) -> tuple[str, Any, Any, str]:
        """With the reason why something is missing, or nothing."""
        name, (file, found) = work
        if isinstance(found, UserError):
            return name, file, found, str(found)
        try:
            results.picture(file, name, found)
        except (BrokenFiles, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                raise
            reason = str(error) if isinstance(error, BrokenFiles) else f"it has no picture: {in_a_line(error)}"
            return name, file, found, reason
        return name, file, found, ""

    stream = zip(inputs.names(files), model.stream(files, batch_size), strict=True)
    for name, file, found, reason in _counted(in_threads(pictured, stream, at_once=4, ahead=8), len(files)):
        if reason:
            broken.append((file, reason.removeprefix(f"{file}: ")))
        if not isinstance(found, UserError):
            good += 1
            results.add(file, name, found)
    made = results.finish()
    print(f"{good:,} image{'s' * (good != 1)} predicted: {', '.join(map(str, made))}")
    if not broken:
        return
    listed = folder / BROKEN
    with replacing(listed) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as lines:
        csv.writer(lines).writerows([("path", "reason"), *broken])
    for file, reason in broken[:NAMED]:
        print(visible(f"{file}: {reason}"), file=sys.stderr)
    raise BrokenFiles(
        f"{len(broken):,} of {len(files):,} images could not be read or drawn; {listed} has them all, with the reasons"
    )


def _counted(outcomes: Iterator[Any], total: int) -> Iterator[Any]:
    """With a bar on a terminal, and a line now and then elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(outcomes, total=total, unit=" images", dynamic_ncols=True)
        return
    since = last = time.monotonic()
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if (now := time.monotonic()) - last > SECONDS_BETWEEN_LINES:
            last = now
            print(f"{number:,}/{total:,} images, {number / (now - since):,.0f} images/s", flush=True)
