"""pt2: a program of torch.export, for PyTorch without the project, and for what compiles it (AOTInductor)."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from kit.exporting.graph import Program
from kit.ground.errors import UserError

PACKAGES: tuple[str, ...] = ()
METADATA = "metadata.json"


def write(program: Program, metadata: Mapping[str, str], file: Path) -> None:
    """
    Raises:
        UserError: the task answers one image at a time: what its outputs' sizes depend on is data.
    """
    if program.exported.one_at_a_time:
        raise UserError(f"torch.export takes no net for {program.exported.task}; ONNX does: --format onnx")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        recorded = torch.export.export(
            program.module,
            program.example,
            dynamic_shapes=tuple(dict.fromkeys(axes, Dim.DYNAMIC) for axes in program.inputs.values()),
        )
        with file.open("wb") as stream:  # whose name ends with .part
            torch.export.save(recorded, stream, extra_files={METADATA: json.dumps(dict(metadata))})


def opened(file: Path) -> Callable[..., dict[str, Tensor]]:
    """The file as PyTorch runs it, on the processor."""
    extra = {METADATA: ""}
    with file.open("rb") as stream:
        module = torch.export.load(stream, extra_files=extra).module()
    names = json.loads(json.loads(extra[METADATA])["outputs"])

    def run(*given: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(names, module(*given), strict=True))

    return run
