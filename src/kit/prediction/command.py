"""The verb `predict`: apply a trained model to images, and write the results while they are computed."""

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
from kit.config.arguments import option_value, split_option, split_words
from kit.config.parser import PlainParser
from kit.ground import app
from kit.ground.errors import BrokenFiles, UserError, one_line
from kit.ground.files import replacing
from kit.ground.terminal import escape
from kit.ground.threads import map_in_threads
from kit.prediction import inputs
from kit.prediction.predictor import Predictor, load
from kit.task import as_task

ARGUMENTS = "RUN_OR_CHECKPOINT IMAGES... [--out DIR] [--KEY VALUE ...]"
BROKEN = "broken.csv"
NAMED = 10  # the number of broken images that are printed; the file has all
SECONDS_BETWEEN_LINES = 10.0
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}  # would occur for every image


class Predictions(Protocol):
    """The class `Predictions` of a task, which writes results into a folder. Its other arguments become options.

    If the task generates images (it has no `predict`), the class has one method instead of `picture`, `add` and
    `finish`: `make(model, batch_size)` writes all results with a `Predictor`, and returns what `finish` returns.

    FOLDERS: the folders in the folder of the results that have a file for each image.
    """

    FOLDERS: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None: ...

    def picture(self, file: Path, name: str, prediction: Any) -> None:
        """Write the files of one image, named by `name`. Several threads call this.

        Raises:
            BrokenFiles: the image cannot be read.
            OSError, ValueError: the picture cannot be drawn or written.
        """

    def add(self, file: Path, name: str, prediction: Any) -> None:
        """Write the result of one image to a file for all images. This is called in the order of the images."""

    def finish(self) -> list[Path]:
        """Complete that file, and return all files and folders of results."""


def predict(args: list[str]) -> None:
    """Apply a run's best checkpoint to images.

    Raises:
        BrokenFiles: some images cannot be read or drawn. All others have results.
    """
    words, options = split_words(args)
    if not words:
        if "-h" not in options and "--help" not in options:
            raise UserError(f"which run? {_usage()}")
        print(f"usage: {_usage()}\n\nThe keys depend on the run's task: {app.command('predict')} RUN --help")
        return
    checkpoint_file = checkpoint.find(words[0])
    model = load(checkpoint_file, option_value(options, "--device"), split_option(options, "--trust")[0])
    kind = as_task(model.task).Predictions
    if kind is None:
        raise UserError(f"{type(model.task).__name__} has no `Predictions`, which say what is written")
    chosen = _parser(kind, model.takes_images).read(options)
    if chosen.batch_size < 1:
        raise UserError(f"batch_size is {chosen.batch_size}, but must be above 0")
    if model.takes_images and not words[1:]:
        raise UserError(f"which images? {_usage()}")
    if not model.takes_images and words[1:]:
        raise UserError(
            f"{type(model.task).__name__} takes no images, but {words[1]} is given: {_usage(with_images=False)}"
        )
    run = checkpoint.run_folder_of(checkpoint_file)
    folder = Path(chosen.out) if chosen.out else run / "predictions"
    if not chosen.out:
        refuse_links(folder, run)
    files = inputs.find_images(words[1:], [folder / name for name in kind.FOLDERS]) if model.takes_images else []
    with checkpoint.one_line_errors(checkpoint_file, "cannot be used"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / BROKEN).unlink(missing_ok=True)
            results = kind(folder, model.class_names, **{key: chosen[key] for key in _option_names(kind)})
            if model.takes_images:
                _write(model, files, chosen.batch_size, results, folder)
            else:
                print(f"made: {', '.join(map(str, results.make(model, chosen.batch_size)))}")
        except OSError as error:
            raise UserError(
                f"{error.filename or folder} cannot be written: {error.strerror or one_line(error)}"
            ) from None


def _usage(with_images: bool = True) -> str:
    arguments = ARGUMENTS if with_images else ARGUMENTS.replace("IMAGES... ", "")
    return f"{app.command('predict')} {arguments}"


def _parser(kind: Any, takes_images: bool) -> PlainParser:
    if takes_images:
        parser = PlainParser(
            usage=_usage(), description="Apply a run's best checkpoint to images and write the results."
        )
    else:
        parser = PlainParser(
            usage=_usage(with_images=False), description="Generate images with a run's best checkpoint."
        )
    parser.add_argument(
        "--out", type=str | None, default=None, help="folder of the results; RUN/predictions by default"
    )
    parser.add_argument("--batch_size", type=int, default=32, help="number of images that the net gets at a time")
    parser.add_argument(
        "--device", type=str | None, default=None, help="cpu, cuda or mps; by default cuda if there is one"
    )
    parser.add_argument("--trust", action="append", default=[], help="also use classes of this package")
    parser.add_class_arguments(kind, skip={"folder", "class_names"})
    return parser


def _option_names(kind: type[Predictions]) -> list[str]:
    """Return the names of the options of a task's `Predictions`."""
    parser = PlainParser()
    return [key.split(".")[0] for key in parser.add_class_arguments(kind, skip={"folder", "class_names"})]


def _write(model: Predictor, files: Sequence[Path], batch_size: int, results: Predictions, folder: Path) -> None:
    broken: list[tuple[Path, str]] = []
    predicted = 0

    def draw(work: tuple[str, tuple[Any, Any]]) -> tuple[str, Any, Any, str]:
        """Return the name, file and prediction of an image, and why it could not be read or drawn, or ""."""
        name, (file, prediction) = work
        if isinstance(prediction, UserError):
            return name, file, prediction, str(prediction)
        try:
            results.picture(file, name, prediction)
        except (BrokenFiles, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            reason = str(error) if isinstance(error, BrokenFiles) else f"it has no picture: {one_line(error)}"
            return name, file, prediction, reason
        return name, file, prediction, ""

    stream = zip(inputs.output_names(files), model.stream(files, batch_size), strict=True)
    for name, file, prediction, reason in _with_progress(map_in_threads(draw, stream, at_once=4, ahead=8), len(files)):
        if reason:
            broken.append((file, reason.removeprefix(f"{file}: ")))
        if not isinstance(prediction, UserError):
            predicted += 1
            results.add(file, name, prediction)
    paths = results.finish()
    print(f"{predicted:,} image{'s' * (predicted != 1)} predicted: {', '.join(map(str, paths))}")
    if not broken:
        return
    table = folder / BROKEN
    with replacing(table) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as lines:
        csv.writer(lines).writerows([("path", "reason"), *broken])
    for file, reason in broken[:NAMED]:
        print(escape(f"{file}: {reason}"), file=sys.stderr)
    raise BrokenFiles(
        f"{len(broken):,} of {len(files):,} images could not be read or drawn; {table} has them all, with the reasons"
    )


def _with_progress(outcomes: Iterator[Any], total: int) -> Iterator[Any]:
    """Yield the outcomes, and show the progress: as a bar on a terminal, or as a line every few seconds."""
    if sys.stderr.isatty():
        yield from tqdm(outcomes, total=total, unit=" images", dynamic_ncols=True)
        return
    since = last = time.monotonic()
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if (now := time.monotonic()) - last > SECONDS_BETWEEN_LINES:
            last = now
            print(f"{number:,}/{total:,} images, {number / (now - since):,.0f} images/s", flush=True)
