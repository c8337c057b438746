"""ONNX: for onnxruntime, OpenVINO, TensorRT, in any language."""

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from kit.exporting.graph import Program
from kit.exporting.onnx_operations import with_pools

PACKAGES = ("onnx", "onnxruntime")
OPSET = 18  # the first whose `Resize` has antialiasing


def write(program: Program, metadata: Mapping[str, str], file: Path) -> None:
    """Records the program by running it (tracing): torch.export takes none of torchvision's detectors."""
    import onnx

    outputs = program.exported.outputs
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            with_pools(deepcopy(program.module)),
            program.example,
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(program.inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in {**program.inputs, **outputs}.items() if axes},
        )
    model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)


def opened(file: Path) -> Callable[..., dict[str, Tensor]]:
    """The file as onnxruntime runs it, on the processor, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait busily would take the cores from PyTorch, which is measured in turns with it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs, names = ([one.name for one in some] for some in (session.get_inputs(), session.get_outputs()))

    def run(*given: Tensor) -> dict[str, Tensor]:
        arrays = session.run(names, {name: one.numpy() for name, one in zip(inputs, given, strict=True)})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    return run
