"""The verb `export`: write a file, try it on real images, and keep it only if its outputs agree with PyTorch's."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.config.parser import PlainParser
from kit.exporting import agreement, example_images
from kit.exporting.file_formats import PACKAGES, open_onnx, write_onnx, write_weights
from kit.exporting.protocol import Exported
from kit.ground import app
from kit.ground.errors import UserError, one_line
from kit.ground.files import replacing, require_writable
from kit.prediction import Predictor, load
from kit.task import as_task

ARGUMENTS = "RUN_OR_CHECKPOINT [--format onnx|safetensors] [--out FILE] [--trust PACKAGE]"
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
    form = _format(chosen.format, chosen.out)
    source = checkpoint.find(chosen.run)
    run = checkpoint.run_folder_of(source)
    out = Path(chosen.out) if chosen.out else run / "exports" / f"model.{form}"
    if not chosen.out:
        refuse_links(out.parent, run)
    require_writable(out)
    model = load(source, "cpu", chosen.trust)
    if not as_task(model.task).has("exported"):
        raise UserError(f"{type(model.task).__name__} has no `exported()`, as Classifier has it")
    try:
        with replacing(out) as part:
            summary = _onnx(model, part, source, chosen.trust) if form == "onnx" else _safetensors(model, part)
    except OSError as error:
        raise UserError(f"{error.filename or out} cannot be written: {error.strerror or error}") from None
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB\n{summary}")


def _usage() -> str:
    return f"{app.command('export')} {ARGUMENTS}"


def _parser() -> PlainParser:
    parser = PlainParser(usage=_usage(), description="Write a run's best checkpoint as a file for other programs.")
    parser.add_argument("run", nargs="?", default=None, help="a run folder or a checkpoint file")
    formats = "onnx: for any runtime; safetensors: only the net's weights; by default the extension of --out, or onnx"
    parser.add_argument("--format", type=Literal["onnx", "safetensors"] | None, default=None, help=formats)
    parser.add_argument("--out", type=str | None, default=None, help="the file; RUN/exports/model.FORMAT by default")
    parser.add_argument("--trust", action="append", default=[], help="also use classes of this package")
    return parser


def _format(option: str | None, out: str | None) -> str:
    """Return the name of the format: that of `--format`, or the extension of `--out`.

    Raises:
        UserError: the extension is of no format, or of another than `--format`; or packages are missing.
    """
    formats = [option] if option else list(PACKAGES)
    form = Path(out).suffix.lower().removeprefix(".") if out else formats[0]
    if form not in formats:
        raise UserError(f"--out {out} must end with {' or '.join(f'.{name}' for name in formats)}")
    if missing := [package for package in PACKAGES[form] if find_spec(package) is None]:
        raise UserError(f"{form} needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[export]'")
    return form


def reference_model(model: Predictor, exported: Exported) -> Predictor:
    """Return the model that an exported file is compared with: a copy without what the file leaves out, if anything."""
    return Predictor(model.task.plain(), model.preprocessing) if exported.left_out else model


def metadata(model: Predictor, exported: Exported) -> dict[str, str]:
    """Return the metadata of a file: `task`, and as JSON `class_names`, `preprocessing` and the names of `outputs`."""
    values = {
        "class_names": model.class_names,
        "preprocessing": asdict(model.preprocessing),
        "outputs": list(exported.outputs),
    }
    return {"task": exported.task, **{key: json.dumps(value) for key, value in values.items()}}


def _safetensors(model: Predictor, part: Path) -> str:
    """Write the weights of the net, and return a summary.

    Raises:
        Disagrees: a tensor in the file differs from that of the net.
    """
    stored = write_weights(model.task.net, metadata(model, model.task.exported()), part)
    weights = model.task.net.state_dict()
    if stored.keys() != weights.keys() or not all(torch.equal(stored[name], weights[name]) for name in weights):
        raise Disagrees("the tensors of the file are not the net's; it is removed")
    return f"{len(weights)} tensors, bit for bit those of the net"


def _onnx(model: Predictor, part: Path, source: Path, trusted: Sequence[str]) -> str:
    """Write an ONNX file, compare its outputs with PyTorch's, measure the latency of both, and return a summary.

    Raises:
        Disagrees: the outputs differ by more than the task allows.
        UserError: torch cannot write the net as ONNX, or onnxruntime cannot run the file.
    """
    exported = model.task.exported()
    model = reference_model(model, exported)
    if model.takes_images:
        images = example_images.read_images(source, model.preprocessing, IMAGES, trusted)
        cases = agreement.image_cases(model, *images)
    else:
        cases = agreement.generation_cases(model, exported, IMAGES)
    with _one_line_errors(model):
        write_onnx(model.preprocessing, exported, metadata(model, exported), part)
        run = _one_line_errors(model)(open_onnx(part))
    result = agreement.compare(run, exported, cases)
    objects = f"{result.objects:,} {exported.counted} in " if exported.counted else ""
    allowed = f"{exported.measured} {result.largest:.2g}, {exported.tolerance:g} allowed"
    if result.largest > exported.tolerance:
        raise Disagrees(
            f"the file does not agree with PyTorch and is removed: {allowed}, on {objects}{cases.description}"
        )
    lines = [f"agrees with PyTorch: {allowed}, on {objects}{cases.description}"]
    if not result.objects:
        nothing = f"neither PyTorch nor the file finds {exported.counted} in {cases.description}"
        lines = [f"nothing could be compared: {nothing}"]
    if exported.left_out:
        lines.append(f"left out, there and here: {exported.left_out}")
    file_ms, torch_ms = agreement.measure_latencies(run, cases)
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    lines.append(f"one image on the CPU, {threads}, median: onnx {file_ms:.2f} ms, PyTorch {torch_ms:.2f} ms")
    return "\n".join(lines)


@contextmanager
def _one_line_errors(model: Predictor) -> Iterator[None]:
    """Replace any exception by an error of one line that proposes another format.

    The exporter and onnxruntime may raise any exception.

    Raises:
        UserError: the code in the context raised an exception other than an OSError.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(
            f"onnx does not support {type(model.task.net).__name__} as it is ({type(error).__name__}: "
            f"{one_line(error)}); try --format safetensors, which writes its weights alone"
        ) from error
