"""`python -m project.export`: writes the file, then tries it on real images, and keeps it only if it agrees."""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from project import UserError, checkpoint, trust
from project.exporting import agreement, onnx_file, pt2_file, safetensors_file, samples
from project.exporting.graph import Graph
from project.exporting.protocol import Exported
from project.mistakes import Words
from project.prediction import Predictor, load

USAGE = "python -m project.export RUN_OR_CHECKPOINT [--format onnx|pt2|safetensors] [--out FILE] [--trust PACKAGE]"
FORMATS: dict[str, ModuleType] = {"onnx": onnx_file, "pt2": pt2_file, "safetensors": safetensors_file}
IMAGES = 16  # that a file is tried on


class Disagrees(UserError):
    """The file does not give what PyTorch gives."""

    exit_code = 1


def export(args: list[str]) -> None:
    """Writes a run's best checkpoint as a file for other programs, by default RUN/exports/model.FORMAT.

    Raises:
        Disagrees: PyTorch's answers to the same images are others; the file is removed.
        UserError: the format cannot take this net, or its packages are not installed.
    """
    if not args or (args[0].startswith("-") and not {"-h", "--help"} & set(args)):
        raise UserError(f"which run? {USAGE}")
    chosen = _parser().read(args)
    form = FORMATS[chosen.format]
    _check_packages(chosen.format, form)
    source = checkpoint.find(chosen.run)
    model = load(source, "cpu", chosen.trust)
    exported = _exported(model)
    out = Path(chosen.out) if chosen.out else checkpoint.run_of(source) / "exports" / f"model.{chosen.format}"
    part = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(chosen.format, model, exported, part)
        said = _tried(chosen.format, model, exported, part, source, chosen.trust)
        part.replace(out)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{error.filename or out} cannot be written: {error.strerror}") from None
    except Exception as error:  # a net of anyone's, in the hands of an exporter, or of what runs the file
        raise UserError(_refused(chosen.format, model, error)) from error
    finally:
        if part.is_file():
            part.unlink()
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB\n{said}")


def _parser() -> Words:
    parser = Words(usage=USAGE, description="Writes a run's best checkpoint as a file for other programs.")
    parser.add_argument("run", help="a run's folder, or a checkpoint file")
    parser.add_argument(
        "--format",
        type=Literal["onnx", "pt2", "safetensors"],
        default="onnx",
        help="onnx: for any runtime; pt2: torch.export's; safetensors: the net's weights alone",
    )
    parser.add_argument("--out", type=str | None, default=None, help="the file; RUN/exports/model.FORMAT by default")
    parser.add_argument("--trust", action="append", default=[], help="use classes of this package, too")
    return parser


def _check_packages(name: str, form: ModuleType) -> None:
    missing = [package for package in form.PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(f"{name} needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[export]'")


def _exported(model: Predictor) -> Any:
    task: Any = model.task
    if not hasattr(task, "exported"):
        raise UserError(f"{type(task).__name__} has no `exported()`, as Classifier has it")
    return task.exported()


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
        graph = Graph(model.preprocessing, exported).eval()
        FORMATS[name].write(graph, model.preprocessing, metadata(model, exported), part)


def _refused(name: str, model: Predictor, error: Exception) -> str:
    """In one line; pt2 takes fewer nets than ONNX, and weights alone can always be written."""
    task: Any = model.task
    other = "--format onnx" if name == "pt2" else "--format safetensors, which writes its weights alone"
    why = f"{type(error).__name__}: {trust.in_a_line(error)[:200]}"
    return f"{name} cannot take {type(task.net).__name__} as it is ({why}); try {other}"


def _tried(name: str, model: Predictor, exported: Exported, part: Path, source: Path, trusted: list[str]) -> str:
    """
    Raises:
        Disagrees: as `export` says.
    """
    task: Any = model.task
    if name == "safetensors":
        if wrong := safetensors_file.unequal(task.net, part):
            raise Disagrees(f"{wrong} tensors of the file are not the net's; it is removed")
        return f"{len(task.net.state_dict())} tensors, bit for bit those of the net"
    images, words = samples.images(source, model.preprocessing, IMAGES, trusted)
    run = FORMATS[name].opened(part)
    found = agreement.disagreement(run, model, exported, images)
    compared = f"{exported.measured} {found:.2g}, {exported.tolerance:g} allowed, on {words}"
    if found > exported.tolerance:
        raise Disagrees(f"the file does not agree with PyTorch and is removed: {compared}")
    lines = [f"agrees with PyTorch: {compared}"]
    lines += [f"left out, there and here: {exported.left_out}"] if exported.left_out else []
    file_ms, torch_ms = agreement.latencies(run, model, images)
    threads = torch.get_num_threads()
    lines += [
        f"one image on the CPU, {threads} thread{'s' * (threads > 1)}, median: "
        f"{name} {file_ms:.2f} ms, PyTorch {torch_ms:.2f} ms"
    ]
    return "\n".join(lines)
