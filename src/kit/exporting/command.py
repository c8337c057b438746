"""The verb `export`: write an ONNX file, compare its outputs with PyTorch's, and keep it only if both agree."""

import json
from dataclasses import asdict
from pathlib import Path

from kit.checkpoints import checkpoint
from kit.checkpoints.run_folder import refuse_links
from kit.config.parser import PlainParser
from kit.exporting import agreement, hub
from kit.exporting.graph import Run, open_onnx, write_onnx
from kit.ground import app
from kit.ground.errors import UserError, import_extra
from kit.ground.files import replacing, require_writable
from kit.ground.unexpected import doing
from kit.prediction import Predictor, load
from kit.task import ExportedModule, as_task

PACKAGES = ("onnx", "onnxruntime")
NUM_IMAGES = 16  # the number of images in the comparison with PyTorch


class Disagreement(UserError):
    """The outputs of an exported file differ from PyTorch's."""

    exit_code = 1


def export(args: list[str]) -> None:
    """Write a run's best checkpoint as an ONNX file, by default RUN/exports/model.onnx, and upload the run if asked.

    Raises:
        Disagreement: the file's outputs differ from PyTorch's. No file is written.
        UserError: ONNX does not support this net, or packages are not installed.
    """
    parser = PlainParser()
    parser.add_argument("run", nargs="?", default=None)
    parser.add_argument("--out", type=str | None, default=None)
    parser.add_argument("--to_hub", type=str | None, default=None)
    parser.add_argument("--trust", action="append", default=[])
    options = parser.read(args)
    if options.run is None:
        raise UserError(f"which run? {app.command('export')} RUN_OR_CHECKPOINT [--KEY VALUE ...]")
    if options.out and not options.out.lower().endswith(".onnx"):
        raise UserError(f"--out {options.out} must end with .onnx")
    for package in PACKAGES:
        import_extra(package, "export", "export")
    source = checkpoint.find(options.run)
    run_folder = checkpoint.run_folder_of(source)
    if options.to_hub and source != run_folder / "checkpoints" / "best.ckpt":
        raise UserError(f"--to_hub uploads a run with its best checkpoint, but {source} is another checkpoint")
    out = Path(options.out) if options.out else run_folder / "exports" / "model.onnx"
    if not options.out:
        refuse_links(out.parent, run_folder)
    require_writable(out)
    if options.to_hub:
        files, client = hub.read_run(run_folder), hub.connect(options.to_hub)
    model = load(source, "cpu", options.trust)
    if not as_task(model.task).has("exported"):
        raise UserError(f"{type(model.task).__name__} has no `exported`, which returns the module to export")
    with doing(f"exporting {source}"):
        exported = model.task.exported()
    model = reference_model(model, exported)
    if model.takes_images:
        images, description = agreement.read_images(source, model.preprocessing, NUM_IMAGES, options.trust)
        cases = agreement.image_cases(model, images, description)
    else:
        cases = agreement.generation_cases(model, exported, NUM_IMAGES)
    with replacing(out) as temporary, doing(f"exporting {source} as ONNX"):
        write_onnx(model.preprocessing, exported, metadata(model, exported), temporary)
        summary = _compare(open_onnx(temporary), exported, cases)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB\n{summary}")
    if options.to_hub:
        print(f"uploaded to {hub.upload(client, options.to_hub, files, model.task.state_dict(), out)}")


def reference_model(model: Predictor, exported: ExportedModule) -> Predictor:
    """Return the model to compare an exported file with. It leaves out the same steps as the file, see `Task.plain`."""
    has_plain = as_task(model.task).has("plain")  # a plain LightningModule may have none
    return Predictor(model.task.plain(), model.preprocessing) if exported.left_out and has_plain else model


def metadata(model: Predictor, exported: ExportedModule) -> dict[str, str]:
    """Return the metadata of an ONNX file. `task` is plain text, and all other values are JSON.

    The others are `class_names`, `preprocessing`, `outputs` (a list of names) and the items of
    `ExportedModule.metadata`.
    """
    values = {"class_names": model.class_names, "preprocessing": asdict(model.preprocessing)}
    values |= {"outputs": list(exported.outputs), **exported.metadata}
    return {"task": exported.task, **{key: json.dumps(value) for key, value in values.items()}}


def _compare(run_onnx: Run, exported: ExportedModule, cases: agreement.Cases) -> str:
    """Compare a file's outputs with PyTorch's, and return a summary of one or two lines.

    Raises:
        Disagreement: the outputs differ by more than the task allows.
    """
    largest, count = agreement.compare(run_onnx, exported, cases)
    objects = f"{count:,} {exported.counted} in " if exported.counted else ""
    details = f"{exported.difference_name} {largest:.2g}, {exported.tolerance:g} allowed, on {objects}"
    details += cases.description
    if largest > exported.tolerance:
        reasons = "; ".join(filter(None, (details, exported.harmless_cause)))
        raise Disagreement(f"the file does not agree with PyTorch and is not written: {reasons}")
    reason = f"PyTorch finds no {exported.counted} in {cases.description}"
    summary = f"agrees with PyTorch: {details}" if count else f"nothing could be compared: {reason}"
    return summary + (f"\nleft out of the file and this comparison: {exported.left_out}" if exported.left_out else "")
