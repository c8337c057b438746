"""ONNX: for onnxruntime, OpenVINO, TensorRT, in any language."""

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from project.exporting.graph import Graph, example
from project.exporting.onnx_operations import with_pools

PACKAGES = ("onnx", "onnxruntime")
OPSET = 18  # the first whose `Resize` has antialiasing
INPUT = "images"


def write(graph: Graph, preprocessing: Any, metadata: Mapping[str, str], file: Path) -> None:
    """Records the graph by running it (tracing): torch.export takes none of torchvision's detectors."""
    import onnx

    answer: Any = graph.answer
    one = answer.one_at_a_time
    names = {INPUT: {1: "height", 2: "width"} | ({} if one else {0: "batch"}), **answer.outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            with_pools(deepcopy(graph)),
            (example(preprocessing, 1 if one else 2),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(answer.outputs),
            dynamic_axes={name: dict(axes) for name, axes in names.items() if axes},
        )
    model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)


def opened(file: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """The file as onnxruntime runs it, on the processor, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait busily would take the cores from PyTorch, which is measured in turns with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        arrays = session.run(names, {INPUT: images.numpy()})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    return run
