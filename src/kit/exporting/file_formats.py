"""Write and open exported files: ONNX, for any runtime and programming language, and safetensors, for weights."""

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kit.data import Preprocessing
from kit.exporting.graph import make_graph, replace_pools

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "safetensors": ("safetensors",)}  # that each format needs
OPSET = 18  # of ONNX, the first whose `Resize` has antialiasing
Run = Callable[..., dict[str, Tensor]]  # from a file's inputs to its outputs by name


def write_onnx(preprocessing: Preprocessing, exported: Any, metadata: Mapping[str, str], file: Path) -> None:
    """Write a task's `exported()`, with its preprocessing, as ONNX.

    It is recorded by tracing, since torch.export does not take torchvision's detectors.
    """
    import onnx

    module, inputs, example = make_graph(preprocessing, exported)
    axes = {name: dict(axes) for name, axes in {**inputs, **exported.outputs}.items() if axes}
    names = {"input_names": list(inputs), "output_names": list(exported.outputs), "dynamic_axes": axes}
    module = replace_pools(deepcopy(module))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, example, file, dynamo=False, opset_version=OPSET, **names)
    model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)


def open_onnx(file: Path) -> Run:
    """Return a function that runs the file in onnxruntime, on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait busily would take the cores from PyTorch, which is timed in turns with the file.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    input_names = [node.name for node in session.get_inputs()]
    output_names = [node.name for node in session.get_outputs()]

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        arrays = [tensor.numpy() for tensor in inputs]
        outputs = session.run(output_names, dict(zip(input_names, arrays, strict=True)))
        return dict(zip(output_names, map(torch.from_numpy, outputs), strict=True))

    return run


def write_weights(net: nn.Module, metadata: Mapping[str, str], file: Path) -> dict[str, Tensor]:
    """Write the tensors of `net.state_dict()` under their names as safetensors, and return what the file contains."""
    from safetensors.torch import load_file, save

    # Contiguous copies: the format has no memory formats, and no tensors that share memory.
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in net.state_dict().items()}
    file.write_bytes(save(tensors, dict(metadata)))  # files by `save_file` are readable by their owner only
    return load_file(file)
