"""Make the folder of a run, and ensure that the run writes and deletes files only in it.

Otherwise a config of unknown origin could make the run write or delete any file.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, get_args, get_origin

from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.profilers import Profiler

from kit.config.annotations import default_of, import_path, parameter_annotations
from kit.config.arguments import scan
from kit.ground.errors import UserError

# URLs, such as `file:///etc` or `simplecache::s3://bucket`. Lightning opens them with fsspec.
URL = re.compile(r"[A-Za-z][\w+.-]+:(/|:)")
# Files that a run replaces by new files. A link at such a path is harmless, since its target is never written to.
REPLACED = re.compile(r"(config\.yaml|results\.json|checkpoints/[^/]+\.ckpt)")
# Keys of `data` and `model` with paths that the run writes to. Paths at other keys of `data` and `model` are only read.
# All paths in other parts of the config, such as `trainer`, may be written to.
WRITTEN_KEYS = ("data.cache_dir",)
UNUSED_KEYS = ("trainer.default_root_dir",)  # a resumed run stays in its folder, and so ignores this path
# Keys with these ends have paths as their values.
PATH_KEYS = re.compile(r"(dir|directory|path|folder|root|location|uri|(?<!pro)file|file_?name)$")
# Lightning's classes whose `filename` is the name of a file in their folder `dirpath`, and no path.
WITH_DIRPATH = (ModelCheckpoint, OnExceptionCheckpoint, Profiler)
# Texts that count as paths at any key: an absolute path, one with `..`, with `~` or with a variable, or a URL.
PATH_TEXTS = re.compile(r"[/\\~]|[A-Za-z][\w+.-]*:|.*\$|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)
LOCK = ".lock"  # an empty file, see `locked`
EVENTS_HEADER_BYTES = 88  # the size of an event file of TensorBoard that has no events
# Paths that always count as outside of the run's folder: a class may expand `~` or an environment variable to any
# folder.
NEVER_INSIDE = re.compile(r"~|.*\$", re.DOTALL)


def next_version(folder: Path) -> Path:
    """Return `folder/version_N`, where N is one more than the highest number that exists, or 0 if there is none."""
    names = [path.name.removeprefix("version_") for path in folder.glob("version_*")]
    return folder / f"version_{max((int(name) + 1 for name in names if name.isdecimal()), default=0)}"


def make_next_version(folder: Path) -> Path:
    """Make the next `folder/version_N` and return it. Runs that start at the same time get different folders.

    Raises:
        UserError: the folder cannot be made.
    """
    while True:
        version = next_version(folder)
        try:
            version.mkdir(parents=True)
            return version
        except OSError as error:
            if not version.exists():  # otherwise another run has made it at the same time
                raise UserError(f"the run's folder {version} cannot be made: {error.strerror}") from None


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a run that failed before it wrote anything, and event files that hold only their header."""
    with suppress(OSError):
        for file in folder.glob("events.out.tfevents.*"):
            if file.stat().st_size <= EVENTS_HEADER_BYTES:
                file.unlink()
        if [file.name for file in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
        folder.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a run's folder, unless the system or the file system has no locks. Then call `remove_if_empty`.

    The lock ends with this process. Its child processes do not inherit it. The file `LOCK` stays in the folder: if it
    were removed, one process could lock the removed file while another one locks a new file.

    Raises:
        UserError: another process holds the lock.
    """
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # Windows has no `fcntl`
            import fcntl

            stream = stack.enter_context((folder / LOCK).open("a"))
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise UserError(f"{folder} is being trained by another process; wait for its end, or stop it") from None
        try:
            yield
        finally:
            remove_if_empty(folder)


def is_inside(path: Path | str, folder: Path | str) -> bool:
    """Return whether a path is inside of a folder after all links are followed. A URL is never inside."""
    if URL.match(str(path)):
        return False
    try:
        return Path(path).resolve().is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError, ValueError):  # circular links; invalid file names
        return False


def refuse_links(target: Path, run: Path) -> None:
    """Refuse to write to a file or folder of a run if a link would lead out of the run's folder.

    The run's folder may itself be a link. Links between paths inside of the folder are allowed, and so are links in
    place of files that the run replaces: see `REPLACED`.

    Args:
        target: a file or folder in `run`, which need not exist. Links below it are also checked.

    Raises:
        UserError: `target`, or a link below it that is not allowed, leads out of `run`.
    """
    paths = [Path(folder, name) for folder, folders, files in os.walk(target) for name in (*folders, *files)]
    for path in [target, *(path for path in paths if path.is_symlink())]:
        is_replaced = path != target and not path.is_dir() and REPLACED.fullmatch(path.relative_to(run).as_posix())
        if not is_replaced and not is_inside(path, run):
            problem = f"{path} leads to {os.path.realpath(path)}, which is not in the run's folder {run}"
            raise UserError(f"{problem}: replace this link by a real file or folder, since a run must not write there")


def refuse_foreign_paths(config: dict[str, Any], args: list[str], run: Path) -> None:
    """Refuse to resume a run if its config names a path outside of the run's folder that the run would write to.

    The paths of `data` and `model` may be outside, since they are only read, except those at `WRITTEN_KEYS`. Texts at
    keys without a dot, such as `name`, are no paths. Defaults of arguments are allowed, and so are paths that the user
    gives on this command line, as `--KEY PATH`.

    Args:
        config: the parsed config, as nested dicts and lists.
        args: the command line.

    Raises:
        UserError: the config names such a path.
    """
    given = {
        (name.strip("-+").replace(".init_args", ""), str(Path(text)))  # `Path` removes a slash at the end
        for name, value, _ in scan(args)
        if value
        for text in (value, os.path.expanduser(value))  # noqa: PTH111 the value need not be a path
    }
    for key, value, takes_path in _texts(config, ""):
        option = re.sub(r"\[\d+\]", "", key)
        may_be_written = not option.startswith(("data.", "model.")) and "." in option and option not in UNUSED_KEYS
        is_path = may_be_written and (takes_path or PATH_TEXTS.match(value))
        is_allowed = is_inside(value, run) and not NEVER_INSIDE.match(value)
        if (is_path or option in WRITTEN_KEYS) and not is_allowed and (option, str(Path(value))) not in given:
            problem = f"{key} is {value!r}, which is not in the run's folder {run}"
            raise UserError(f"{problem}; to let the run write there, add --{option} {value}")


def _texts(values: Any, key: str, owner: Any = None) -> Iterator[tuple[str, str, bool]]:
    """Yield the texts and paths below a key, except class paths and defaults of arguments.

    Args:
        values: the value at the key: a text, a path, a list, a dict or anything else.
        key: the key, with dots and without `init_args`.
        owner: the class that takes `values` as an argument, or that takes the entries of the dict `values` as
            arguments; None if unknown.

    Yields:
        the key; the text; and whether the value is a `Path`, or its argument takes one by its name or annotation.
    """
    if isinstance(values, str | Path):
        name = re.sub(r"\[\d+\]", "", key.rpartition(".")[2])
        if not isinstance(owner, type) or default_of(owner, name) != values:
            yield key, str(values), isinstance(values, Path) or _takes_path(owner, name)
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from _texts(value, f"{key}[{index}]", owner)
    elif isinstance(values, dict):
        class_path = values.get("class_path")
        inner = import_path(class_path) if isinstance(class_path, str) else owner
        for name, value in values.items():
            if name in ("init_args", "dict_kwargs"):
                yield from _texts(value, key, inner)
            elif name != "class_path":
                yield from _texts(value, f"{key}.{name}".lstrip("."), owner)


def _takes_path(owner: Any, name: str) -> bool:
    """Return whether an argument takes paths, by its name or annotation. `owner` is the class, or None if unknown."""
    if not isinstance(owner, type):
        return bool(PATH_KEYS.search(name))
    is_path_key = PATH_KEYS.search(name) and not (name == "filename" and issubclass(owner, WITH_DIRPATH))
    return bool(is_path_key) or _contains_path(parameter_annotations(owner).get(name))


def _contains_path(annotation: Any) -> bool:
    """Return whether an annotation is a class of paths, or contains one, as `list[Path] | None` does."""
    kind = get_origin(annotation) or annotation
    return (isinstance(kind, type) and issubclass(kind, os.PathLike)) or any(map(_contains_path, get_args(annotation)))
