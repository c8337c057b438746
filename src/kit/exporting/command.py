"""The verb `export`: writes the file, then tries it on real images, and keeps it only if it agrees."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.config.parser import Words
from kit.exporting import agreement, onnx_file, pt2_file, questions, safetensors_file, samples
from kit.exporting.graph import program
from kit.exporting.protocol import Exported
from kit.ground import app
from kit.ground.errors import UserError, in_a_line
from kit.ground.files import replacing
from kit.prediction import Predictor, load
from kit.task import as_task

ARGUMENTS = "RUN_OR_CHECKPOINT [--format onnx|pt2|safetensors] [--out FILE] [--trust PACKAGE]"
FORMATS: dict[str, ModuleType] = {"onnx": onnx_file, "pt2": pt2_file, "safetensors": safetensors_file}
IMAGES = 16  # that a file is tried on, or makes


class Disagrees(UserError):
    """The file does not give what PyTorch gives."""

    exit_code = 1


def export(args: list[str]) -> None:
    """Writes a run's best checkpoint as a file for other programs, by default RUN/exports/model.FORMAT.

    Raises:
        Disagrees: PyTorch's answers to the same images are others; the file is removed.
        UserError: the format cannot take this net, or its packages are not installed.
    """
    chosen = _parser().read(args)
    if chosen.run is None:
        raise UserError(f"which run? {_usage()}")
    form = _format(chosen.format, chosen.out)
    _check_packages(form, FORMATS[form])
    source = checkpoint.find(chosen.run)
    run = checkpoint.run_of(source)
    out = Path(chosen.out) if chosen.out else run / "exports" / f"model.{form}"
    if not chosen.out:
        refuse_links(out.parent, run)
    _check_place(out, form)
    model = load(source, "cpu", chosen.trust)
    exported = _exported(model)
    model = counterpart(model, exported)
    asked = None
    if form != "safetensors" and model.takes_images:
        asked = questions.about_images(model, *samples.images(source, model.preprocessing, IMAGES, chosen.trust))
    elif form != "safetensors":
        asked = questions.about_making(model, exported, IMAGES)
    try:
        with replacing(out) as part:
            with _refusing(form, model, "cannot take"):
                _write(form, model, exported, part)
            said = _tried(form, model, exported, part, asked) if asked else _unequal(model, part)
    except OSError as error:
        raise UserError(f"{error.filename or out} cannot be written: {error.strerror or error}") from None
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB\n{said}")


def _usage() -> str:
    return f"{app.command('export')} {ARGUMENTS}"


def _parser() -> Words:
    parser = Words(usage=_usage(), description="Writes a run's best checkpoint as a file for other programs.")
    parser.add_argument("run", nargs="?", default=None, help="a run's folder, or a checkpoint file")
    parser.add_argument(
        "--format",
        type=Literal["onnx", "pt2", "safetensors"] | None,
        default=None,
        help="onnx: for any runtime; pt2: torch.export's; safetensors: the net's weights alone; by default as --out "
        "ends, or onnx",
    )
    parser.add_argument("--out", type=str | None, default=None, help="the file; RUN/exports/model.FORMAT by default")
    parser.add_argument("--trust", action="append", default=[], help="use classes of this package, too")
    return parser


def _format(asked: str | None, out: str | None) -> str:
    """The format that is asked for, or that the file's ending tells.

    Raises:
        UserError: the ending is of none, or of another.
    """
    if out is None or Path(out).is_dir():  # which `_check_place` refuses
        return asked or "onnx"
    ending = Path(out).suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        endings = [f".{form}" for form in ([asked] if asked else FORMATS)]
        raise UserError(f"--out {out} must end with {' or '.join(endings)}")
    if asked not in (None, ending):
        raise UserError(f"--out {out} is no name for --format {asked}: let it end with .{asked}, or leave --format out")
    return ending


def _check_place(out: Path, form: str) -> None:
    """Before all the work.

    Raises:
        UserError: no file can be made there.
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name the file, too: {out / f'model.{form}'}")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{out} cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{out} cannot be written: {above} is not yours to write to")


def _check_packages(name: str, form: ModuleType) -> None:
    missing = [package for package in form.PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(f"{name} needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[export]'")


def _exported(model: Predictor) -> Any:
    task: Any = model.task
    if not as_task(task).has("exported"):
        raise UserError(f"{type(task).__name__} has no `exported()`, as Classifier has it")
    return task.exported()


def counterpart(model: Predictor, exported: Exported) -> Predictor:
    """Return the model that an exported file is compared with: a copy without what the file leaves out, if anything."""
    task: Any = model.task
    return Predictor(task.plain(), model.preprocessing) if exported.left_out else model


def metadata(model: Predictor, exported: Exported) -> dict[str, str]:
    """What stands in the file: `task`, and as JSON `class_names`, `preprocessing` and `outputs`, the names in order."""
    values = {
        "class_names": model.class_names,
        "preprocessing": asdict(model.preprocessing),
        "outputs": list(exported.outputs),
    }
    return {"task": exported.task, **{key: json.dumps(value) for key, value in values.items()}}


def _write(name: str, model: Predictor, exported: Any, part: Path) -> None:
    if name == "safetensors":
        net: Any = model.task.net
        safetensors_file.write(net, metadata(model, exported), part)
    else:
        FORMATS[name].write(program(model.preprocessing, exported), metadata(model, exported), part)


@contextmanager
def _refusing(name: str, model: Predictor, failed: str) -> Iterator[None]:
    """A net of anyone's, in the hands of an exporter, or of what runs the file: there is nothing that they raise not.

    pt2 takes fewer nets than ONNX, and weights alone can always be written.

    Args:
        failed: what stands between the format and the net.

    Raises:
        UserError: anything but an OSError was raised; in one line.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        task: Any = model.task
        other = "--format onnx" if name == "pt2" else "--format safetensors, which writes its weights alone"
        why = f"{type(error).__name__}: {in_a_line(error)}"
        raise UserError(f"{name} {failed} {type(task.net).__name__} as it is ({why}); try {other}") from error


def _unequal(model: Predictor, part: Path) -> str:
    """
    Raises:
        Disagrees: as `export` says.
    """
    task: Any = model.task
    if wrong := safetensors_file.unequal(task.net, part):
        raise Disagrees(f"{wrong} tensors of the file are not the net's; it is removed")
    return f"{len(task.net.state_dict())} tensors, bit for bit those of the net"


def _tried(name: str, model: Predictor, exported: Exported, part: Path, asked: questions.Questions) -> str:
    """
    Raises:
        Disagrees: as `export` says.
    """
    with _refusing(name, model, "cannot run what it made of"):
        file = FORMATS[name].opened(part)

    def run(*given: Tensor) -> dict[str, Tensor]:
        with _refusing(name, model, "cannot run what it made of"):
            return file(*given)

    found = agreement.compared(run, exported, asked)
    of = f"{found.things:,} {exported.counted} in " if exported.counted else ""
    compared = f"{exported.measured} {found.largest:.2g}, {exported.tolerance:g} allowed, on {of}{asked.words}"
    if found.largest > exported.tolerance:
        raise Disagrees(f"the file does not agree with PyTorch and is removed: {compared}")
    lines = [f"agrees with PyTorch: {compared}"]
    if not found.things:
        lines = [f"nothing could be compared: neither PyTorch nor the file finds {exported.counted} in {asked.words}"]
    lines += [f"left out, there and here: {exported.left_out}"] if exported.left_out else []
    file_ms, torch_ms = agreement.latencies(run, asked)
    threads = torch.get_num_threads()
    lines += [
        f"one image on the CPU, {threads} thread{'s' * (threads > 1)}, median: "
        f"{name} {file_ms:.2f} ms, PyTorch {torch_ms:.2f} ms"
    ]
    return "\n".join(lines)
