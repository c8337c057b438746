"""Write and open exported files: ONNX, torch.export's pt2, and safetensors."""

import json
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from kit.exporting.graph import Program, replace_pools
from kit.ground.errors import UserError

Run = Callable[..., dict[str, Tensor]]  # from a file's inputs to its outputs by name


class Onnx:
    """ONNX: for onnxruntime, OpenVINO, TensorRT and others, in any programming language."""

    PACKAGES = ("onnx", "onnxruntime")
    OPSET = 18  # the first whose `Resize` has antialiasing

    @classmethod
    def write(cls, program: Program, metadata: Mapping[str, str], file: Path) -> None:
        """Record the program by tracing, since torch.export does not take torchvision's detectors."""
        import onnx

        outputs = program.exported.outputs
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                replace_pools(deepcopy(program.module)),
                program.example,
                file,
                dynamo=False,
                opset_version=cls.OPSET,
                input_names=list(program.inputs),
                output_names=list(outputs),
                dynamic_axes={name: dict(axes) for name, axes in {**program.inputs, **outputs}.items() if axes},
            )
        model = onnx.load(file)
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.save(model, file)

    @staticmethod
    def open(file: Path) -> Run:
        """Return a function that runs the file in onnxruntime, on the CPU, with as many threads as torch has."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait busily would take the cores from PyTorch, which is timed in turns with the file.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        input_names, output_names = (
            [node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs())
        )

        def run(*inputs: Tensor) -> dict[str, Tensor]:
            feed = {name: tensor.numpy() for name, tensor in zip(input_names, inputs, strict=True)}
            arrays = session.run(output_names, feed)
            return {name: torch.from_numpy(array) for name, array in zip(output_names, arrays, strict=True)}

        return run


class Pt2:
    """pt2: a program of torch.export, for PyTorch without the project, and for compilers such as AOTInductor."""

    PACKAGES: tuple[str, ...] = ()
    METADATA = "metadata.json"

    @classmethod
    def write(cls, program: Program, metadata: Mapping[str, str], file: Path) -> None:
        """Record the program with torch.export.

        Raises:
            UserError: the sizes of the task's outputs depend on the image, which torch.export does not support.
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
            with file.open("wb") as stream:  # torch refuses the file's name, which does not end with .pt2 yet
                torch.export.save(recorded, stream, extra_files={cls.METADATA: json.dumps(dict(metadata))})

    @classmethod
    def open(cls, file: Path) -> Run:
        """Return a function that runs the file in PyTorch, on the CPU."""
        extra = {cls.METADATA: ""}
        with file.open("rb") as stream:
            module = torch.export.load(stream, extra_files=extra).module()
        output_names = json.loads(json.loads(extra[cls.METADATA])["outputs"])

        def run(*inputs: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                return dict(zip(output_names, module(*inputs), strict=True))

        return run


class Safetensors:
    """safetensors: the net's weights only, for a program that builds the same net."""

    PACKAGES = ("safetensors",)

    @staticmethod
    def write(net: nn.Module, metadata: Mapping[str, str], file: Path) -> None:
        """Write the tensors of `net.state_dict()` under their names."""
        from safetensors.torch import save

        # Contiguous copies: the format has no memory formats, and no tensors that share memory.
        tensors = {
            name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in net.state_dict().items()
        }
        file.write_bytes(save(tensors, dict(metadata)))  # files by `save_file` are readable by their owner only

    @staticmethod
    def count_different(net: nn.Module, file: Path) -> int:
        """Return the number of tensors that are not equal, bit for bit, in the net and in the file."""
        from safetensors.torch import load_file

        stored: dict[str, Tensor] = load_file(file)
        weights = net.state_dict()
        equal = [name for name, tensor in weights.items() if name in stored and torch.equal(tensor.cpu(), stored[name])]
        return len(weights.keys() | stored.keys()) - len(equal)
