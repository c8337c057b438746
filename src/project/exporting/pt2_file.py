"""pt2: a program of torch.export, for PyTorch without this project, and for what compiles it (AOTInductor)."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from project import UserError
from project.exporting.graph import Graph, example

PACKAGES: tuple[str, ...] = ()
METADATA = "metadata.json"


def write(graph: Graph, preprocessing: Any, metadata: Mapping[str, str], file: Path) -> None:
    """
    Raises:
        UserError: the task answers one image at a time: what its outputs' sizes depend on is data.
    """
    answer: Any = graph.answer
    if answer.one_at_a_time:
        raise UserError(f"torch.export takes no net for {answer.task}; ONNX does: --format onnx")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            graph,
            (example(preprocessing, 2),),
            dynamic_shapes=((Dim.DYNAMIC, Dim.DYNAMIC, Dim.DYNAMIC, Dim.STATIC),),
        )
        with file.open("wb") as stream:  # whose name ends with .part
            torch.export.save(program, stream, extra_files={METADATA: json.dumps(dict(metadata))})


def opened(file: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """The file as PyTorch runs it, on the processor."""
    extra = {METADATA: ""}
    with file.open("rb") as stream:
        module = torch.export.load(stream, extra_files=extra).module()
    names = json.loads(json.loads(extra[METADATA])["outputs"])

    def run(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(names, module(images), strict=True))

    return run
