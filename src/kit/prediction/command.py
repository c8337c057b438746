"""The verb `predict`: apply a trained model to images, and write the results while they are computed."""

import csv
import errno
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tqdm import tqdm

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.config.arguments import extract_option, option_value, split_words
from kit.config.parser import PlainParser
from kit.formats.folders import images
from kit.ground import app
from kit.ground.errors import BrokenFiles, UserError, one_line
from kit.ground.files import allowing_pixels, max_pixels, replacing
from kit.ground.ranges import PositiveInt
from kit.ground.threads import map_in_threads
from kit.ground.unexpected import doing
from kit.prediction.predictor import Predictor, load
from kit.task import as_task

BROKEN = "broken.csv"
SECONDS_BETWEEN_LINES = 10  # between lines that show the progress in a log or a pipe


class Predictions(Protocol):
    """The interface of the class `Predictions` of a task, which writes results into a folder.

    Further arguments of the class become options of the command line. If the task generates images, the class has the
    method `make(model, batch_size)` instead of `write_files`, `add` and `finish`. `make` generates all results
    with a `Predictor`, writes them, and returns their paths.

    FOLDERS: the names of the subfolders with a file for each image.
    """

    FOLDERS: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None: ...

    def write_files(self, file: Path, name: str, prediction: Any) -> None:
        """Write the files of one image. Several threads call this at the same time.

        Args:
            file: the image.
            name: the name of the files without their extension, which may begin with folders, see `output_names`.
            prediction: the task's prediction.

        Raises:
            BrokenFiles: the image cannot be read.
            OSError, ValueError: the picture cannot be drawn or written.
        """

    def add(self, file: Path, name: str, prediction: Any) -> None:
        """Add one image to the file with the results of all images. This is called in the order of the images."""

    def finish(self) -> list[Path]:
        """Complete the file with the results of all images, and return the paths of all results."""


def predict(args: list[str]) -> None:
    """Apply a run's best checkpoint to images, or generate images with it.

    Raises:
        BrokenFiles: some images cannot be read or drawn. All other images have results.
    """
    usage = f"{app.command('predict')} RUN_OR_CHECKPOINT [IMAGES...] [--KEY VALUE ...]"
    words, options = split_words(args)
    if not words:
        raise UserError(f"which run? {usage}")
    source = checkpoint.find(words[0])
    model = load(source, option_value(options, "--device"), extract_option(options, "--trust")[0])
    writer = as_task(model.task).Predictions
    if writer is None:
        raise UserError(f"{type(model.task).__name__} has no `Predictions`, the class that writes the results")
    parser = PlainParser()
    parser.add_argument("--out", type=str | None, default=None)
    parser.add_argument("--batch_size", type=PositiveInt, default=32)
    parser.add_argument("--max_pixels", type=PositiveInt, default=max_pixels())
    parser.add_argument("--device", type=str | None, default=None)
    parser.add_argument("--trust", action="append", default=[])
    names = parser.add_class_arguments(writer, skip={"folder", "class_names"})
    options_of_model = as_task(model.task).prediction_options
    parser.set_defaults({name: options_of_model[name] for name in names if name in options_of_model})
    arguments = parser.read(options)
    if model.takes_images and not words[1:]:
        raise UserError(f"which images? {usage}")
    if words[1:] and not model.takes_images:
        raise UserError(f"{type(model.task).__name__} takes no images, but {words[1]} is given: {usage}")
    run = checkpoint.run_folder_of(source)
    folder = Path(arguments.out) if arguments.out else run / "predictions"
    if not arguments.out:
        refuse_links(folder, run)
    files = find_images(words[1:], [folder / name for name in writer.FOLDERS]) if model.takes_images else []
    with doing(f"predicting with {source}"), allowing_pixels(arguments.max_pixels):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / BROKEN).unlink(missing_ok=True)
            results = writer(folder, model.class_names, **{name: arguments[name] for name in names})
            if model.takes_images:
                _write(model, files, arguments.batch_size, results, folder)
            else:
                print(f"made: {', '.join(map(str, results.make(model, arguments.batch_size)))}")
        except OSError as error:
            why = error.strerror or one_line(error)
            raise UserError(f"{error.filename or folder} cannot be written: {why}") from None


def _write(model: Predictor, files: Sequence[Path], batch_size: int, results: Predictions, folder: Path) -> None:
    """Apply a model to images, and write the results and, if needed, `broken.csv` with the images that failed.

    Raises:
        BrokenFiles: some images cannot be read or drawn.
    """
    broken: list[tuple[Path, str]] = []

    def write_or_explain(item: tuple[str, tuple[Any, Any]]) -> tuple[str, Any, Any, str]:
        """Write an image's files. Return its name, file and prediction, and why this failed, or ""."""
        name, (file, prediction) = item
        if isinstance(prediction, UserError):  # `stream` yields the error if the image cannot be read
            return name, file, prediction, str(prediction)
        reason = ""
        try:
            results.write_files(file, name, prediction)
        except UserError as error:
            reason = str(error)
        except (OSError, ValueError) as error:
            # PIL's own errors have no `errno`. Most other errors, such as a full disk, would occur for every image.
            if isinstance(error, OSError) and error.errno not in (None, errno.ENAMETOOLONG):
                raise
            reason = f"its picture cannot be drawn: {one_line(error)}"
        return name, file, prediction, reason

    stream = zip(output_names(files), model.stream(files, batch_size), strict=True)
    entries = map_in_threads(write_or_explain, stream, chunk_size=4, max_chunks=8)
    delays = {} if sys.stderr.isatty() else {"delay": SECONDS_BETWEEN_LINES, "mininterval": SECONDS_BETWEEN_LINES}
    num_predicted = 0
    for name, file, prediction, reason in tqdm(entries, total=len(files), unit=" images", dynamic_ncols=True, **delays):
        if reason:
            broken.append((file, reason.removeprefix(f"{file}: ")))
        if not isinstance(prediction, UserError):  # see `write_or_explain`
            num_predicted += 1
            results.add(file, name, prediction)
    paths = results.finish()
    print(f"{num_predicted:,} image{'s' * (num_predicted != 1)} predicted: {', '.join(map(str, paths))}")
    if not broken:
        return
    table = folder / BROKEN
    with (
        replacing(table) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as lines,
    ):
        csv.writer(lines).writerows([("path", "reason"), *broken])
    count, (file, reason) = f"{len(broken):,} of {len(files):,} images", broken[0]
    raise BrokenFiles(f"{count} could not be read or drawn; {table} lists them; the first: {file}: {reason}")


def find_images(words: Sequence[str], results: Sequence[Path] = ()) -> list[Path]:
    """Return the images that the words of a command line name, without duplicates.

    Args:
        words: files, and folders, which are searched recursively.
        results: folders that the command writes to. Images in these folders are left out.

    Raises:
        UserError: a word names no image, or all images are in `results`.
    """
    by_path: dict[Path, Path] = {}  # keys are absolute paths, values the paths as found
    for word in words:
        path = Path(word)
        if not path.exists():
            raise UserError(f"{word}: no such file or folder")
        files = images(path) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{word}: there is no image in this folder")
        for file in files:
            by_path.setdefault(_absolute(file), file)
    folders = [folder.resolve() for folder in results if folder.is_dir()]
    inputs = [file for path, file in by_path.items() if not any(folder in path.resolve().parents for folder in folders)]
    if not inputs:
        raise UserError(f"{' '.join(words)} is in the folder for results; choose another folder with --out")
    return inputs


def output_names(files: Sequence[Path]) -> list[str]:
    """Return a unique name for each file's results: its path relative to the common folder of all files.

    The extension is left out if the name is unique without it. No name is absolute or contains `..`, so results stay in
    the folder for results.
    """
    absolute_paths = [_absolute(file) for file in files]
    common = Path(os.path.commonpath([path.parent for path in absolute_paths]))
    paths = [path.relative_to(common).as_posix() for path in absolute_paths]
    stems = [Path(name).with_suffix("").as_posix() for name in paths]
    counts = Counter([*stems, *paths])  # `a.png.bmp` without its extension is `a.png`, which may also exist
    return [path if counts[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]


def _absolute(file: Path) -> Path:
    """Return an absolute path without `..`.

    If the path has `..`, the links in its folder's path are resolved, since `..` after a link means the folder above
    the link's target. Other links are kept.
    """
    return file.parent.resolve() / file.name if ".." in file.parts else file.absolute()
