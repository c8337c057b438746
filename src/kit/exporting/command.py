"""The verb `export`: write a file, try it on real images, and keep it only if its outputs agree with PyTorch's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.config.parser import PlainParser
from kit.exporting import agreement, example_images
from kit.exporting.file_formats import Onnx, Pt2, Safetensors
from kit.exporting.graph import make_program
from kit.exporting.protocol import Exported
from kit.ground import app
from kit.ground.errors import UserError, one_line
from kit.ground.files import replacing, require_writable
from kit.prediction import Predictor, load
from kit.task import as_task

ARGUMENTS = "RUN_OR_CHECKPOINT [--format onnx|pt2|safetensors] [--out FILE] [--trust PACKAGE]"
FORMATS: dict[str, Any] = {"onnx": Onnx, "pt2": Pt2, "safetensors": Safetensors}
IMAGES = 16  # the number of images that a file is tried on, or generates


class Disagrees(UserError):
    """The outputs of a file differ from PyTorch's."""

    exit_code = 1


def export(args: list[str]) -> None:
    """Write a run's best checkpoint as a file for other programs, by default RUN/exports/model.FORMAT.

    Raises:
        Disagrees: the file's outputs differ from PyTorch's. The file is removed.
        UserError: the format does not support this net, or its packages are not installed.
    """
    chosen = _parser().read(args)
    if chosen.run is None:
        raise UserError(f"which run? {_usage()}")
    name = _format_name(chosen.format, chosen.out)
    _require_packages(name)
    source = checkpoint.find(chosen.run)
    run = checkpoint.run_folder_of(source)
    out = Path(chosen.out) if chosen.out else run / "exports" / f"model.{name}"
    if not chosen.out:
        refuse_links(out.parent, run)
    require_writable(out)
    model = load(source, "cpu", chosen.trust)
    exported = _exported(model)
    model = reference_model(model, exported)
    cases = None
    if name != "safetensors" and model.takes_images:
        images = example_images.read_images(source, model.preprocessing, IMAGES, chosen.trust)
        cases = agreement.image_cases(model, *images)
    elif name != "safetensors":
        cases = agreement.generation_cases(model, exported, IMAGES)
    try:
        with replacing(out) as part:
            with _one_line_errors(name, model, "cannot take"):
                _write(name, model, exported, part)
            summary = _compare(name, model, exported, part, cases) if cases else _compare_weights(model, part)
    except OSError as error:
        raise UserError(f"{error.filename or out} cannot be written: {error.strerror or error}") from None
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB\n{summary}")


def _usage() -> str:
    return f"{app.command('export')} {ARGUMENTS}"


def _parser() -> PlainParser:
    parser = PlainParser(usage=_usage(), description="Write a run's best checkpoint as a file for other programs.")
    parser.add_argument("run", nargs="?", default=None, help="a run folder or a checkpoint file")
    parser.add_argument(
        "--format",
        type=Literal["onnx", "pt2", "safetensors"] | None,
        default=None,
        help="onnx: for any runtime; pt2: for PyTorch (torch.export); safetensors: only the net's weights; the default "
        "is the extension of --out, or onnx",
    )
    parser.add_argument("--out", type=str | None, default=None, help="the file; RUN/exports/model.FORMAT by default")
    parser.add_argument("--trust", action="append", default=[], help="also use classes of this package")
    return parser


def _format_name(option: str | None, out: str | None) -> str:
    """Return the name of the format: that of `--format`, or the extension of `--out`.

    Raises:
        UserError: the extension is of no format, or of another than `--format`.
    """
    if out is None or Path(out).is_dir():  # `require_writable` refuses a folder
        return option or "onnx"
    extension = Path(out).suffix.lower().removeprefix(".")
    if extension not in FORMATS:
        extensions = [f".{name}" for name in ([option] if option else FORMATS)]
        raise UserError(f"--out {out} must end with {' or '.join(extensions)}")
    if option not in (None, extension):
        raise UserError(
            f"--out {out} is no name for --format {option}: let it end with .{option}, or leave --format out"
        )
    return extension


def _require_packages(name: str) -> None:
    missing = [package for package in FORMATS[name].PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(f"{name} needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[export]'")


def _exported(model: Predictor) -> Any:
    task: Any = model.task
    if not as_task(task).has("exported"):
        raise UserError(f"{type(task).__name__} has no `exported()`, as Classifier has it")
    return task.exported()


def reference_model(model: Predictor, exported: Exported) -> Predictor:
    """Return the model that an exported file is compared with: a copy without what the file leaves out, if anything."""
    task: Any = model.task
    return Predictor(task.plain(), model.preprocessing) if exported.left_out else model


def metadata(model: Predictor, exported: Exported) -> dict[str, str]:
    """Return the metadata of a file: `task`, and as JSON `class_names`, `preprocessing` and the names of `outputs`."""
    values = {
        "class_names": model.class_names,
        "preprocessing": asdict(model.preprocessing),
        "outputs": list(exported.outputs),
    }
    return {"task": exported.task, **{key: json.dumps(value) for key, value in values.items()}}


def _write(name: str, model: Predictor, exported: Any, part: Path) -> None:
    if name == "safetensors":
        net: Any = model.task.net
        Safetensors.write(net, metadata(model, exported), part)
    else:
        FORMATS[name].write(make_program(model.preprocessing, exported), metadata(model, exported), part)


@contextmanager
def _one_line_errors(name: str, model: Predictor, failed: str) -> Iterator[None]:
    """Replace any exception by an error of one line that proposes another format.

    Exporters and runtimes may raise any exception. pt2 supports fewer nets than ONNX, and safetensors supports all.

    Args:
        failed: the words between the names of the format and of the net.

    Raises:
        UserError: the code in the context raised an exception other than an OSError.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        task: Any = model.task
        other = "--format onnx" if name == "pt2" else "--format safetensors, which writes its weights alone"
        why = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{name} {failed} {type(task.net).__name__} as it is ({why}); try {other}") from error


def _compare_weights(model: Predictor, part: Path) -> str:
    """Compare the tensors in a file with those of the net, and return a summary.

    Raises:
        Disagrees: a tensor differs.
    """
    task: Any = model.task
    if different := Safetensors.count_different(task.net, part):
        raise Disagrees(f"{different} tensors of the file are not the net's; it is removed")
    return f"{len(task.net.state_dict())} tensors, bit for bit those of the net"


def _compare(name: str, model: Predictor, exported: Exported, part: Path, cases: agreement.Cases) -> str:
    """Compare a file's outputs with PyTorch's, measure the latency of both, and return a summary.

    Raises:
        Disagrees: the outputs differ by more than the task allows.
    """
    with _one_line_errors(name, model, "cannot run what it made of"):
        run_file = FORMATS[name].open(part)

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        with _one_line_errors(name, model, "cannot run what it made of"):
            return run_file(*inputs)

    result = agreement.compare(run, exported, cases)
    objects = f"{result.objects:,} {exported.counted} in " if exported.counted else ""
    details = (
        f"{exported.measured} {result.largest:.2g}, {exported.tolerance:g} allowed, on {objects}{cases.description}"
    )
    if result.largest > exported.tolerance:
        raise Disagrees(f"the file does not agree with PyTorch and is removed: {details}")
    lines = [f"agrees with PyTorch: {details}"]
    if not result.objects:
        nothing = f"neither PyTorch nor the file finds {exported.counted} in {cases.description}"
        lines = [f"nothing could be compared: {nothing}"]
    lines += [f"left out, there and here: {exported.left_out}"] if exported.left_out else []
    file_ms, torch_ms = agreement.measure_latencies(run, cases)
    threads = torch.get_num_threads()
    lines += [
        f"one image on the CPU, {threads} thread{'s' * (threads > 1)}, median: "
        f"{name} {file_ms:.2f} ms, PyTorch {torch_ms:.2f} ms"
    ]
    return "\n".join(lines)
