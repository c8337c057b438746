"""Write preprocessing and net as one ONNX graph, for images of any size, and run such a file.

`ResizeAndPad`, `bicubic` and `MatrixPool` replace operations that torch's ONNX exporter does not support.
"""

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from kit.data import Preprocessing
from kit.data.decode import PADDING, pad, resize
from kit.task import ExportedModule

OPSET = 18  # ONNX's first operator set whose `Resize` has antialiasing
Run = Callable[..., dict[str, Tensor]]  # maps a file's inputs to its outputs by name
Size = tuple[Any, Any]  # height and width: integers, or scalar tensors during tracing


def write_onnx(preprocessing: Preprocessing, exported: Any, metadata: Mapping[str, str], file: Path) -> None:
    """Write an ONNX file with the module that a task exports and the preprocessing before it.

    The module is traced, since torch.export does not support torchvision's detectors.

    Args:
        preprocessing: the model's preprocessing.
        exported: the result of the task's `exported()`.
        metadata: texts to store in the file, by name.
        file: the file to write.
    """
    import onnx

    module, inputs, example = _make_graph(preprocessing, exported)
    axes = {name: dict(dims) for name, dims in {**inputs, **exported.outputs}.items() if dims}
    names: dict[str, Any] = {"input_names": list(inputs), "output_names": list(exported.outputs)}
    module = replace_pools(deepcopy(module).eval())
    torch.onnx.register_custom_op_symbolic("aten::_upsample_bicubic2d_aa", bicubic, OPSET)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, example, file, dynamo=False, opset_version=OPSET, dynamic_axes=axes, **names)
    model = onnx.load(file)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)


def open_onnx(file: Path) -> Run:
    """Return a function that runs the file in onnxruntime, on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Waiting threads must not spin: PyTorch needs the cores between two runs of the file.
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


def _make_graph(
    preprocessing: Preprocessing, exported: ExportedModule
) -> tuple[nn.Module, Mapping[str, Any], tuple[Tensor, ...]]:
    """Return what to trace: a module, and its inputs. See `write_onnx` for the arguments.

    Returns:
        the module; the name of each input, with the names of its dynamic dimensions by index; and example inputs, for
        one image if `exported.one_at_a_time`, else for two images.
    """
    if exported.inputs:
        return exported, exported.inputs, exported.example(preprocessing, 2)
    batch = {} if exported.one_at_a_time else {0: "batch"}
    height, width = preprocessing.size or (131, 197)  # without a size, any example will do
    # Add to the sides, so that the image is resized, and usually no stride of a net divides them.
    shape = (1 if exported.one_at_a_time else 2, height + 13, width + 29, preprocessing.channels)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Graph(preprocessing, exported), {"images": {**batch, 1: "height", 2: "width"}}, (noise,)


class Graph(nn.Module):
    """Map images, uint8 [B H W C], to the outputs of a task's `exported()`.

    Channels are last, as in the arrays of PIL and OpenCV: `np.asarray(image)[None]` is an input.

    Args:
        preprocessing: the model's preprocessing, see `Preprocessing.read`.
        exported: the result of the task's `exported()`.
    """

    def __init__(self, preprocessing: Preprocessing, exported: ExportedModule) -> None:
        super().__init__()
        self.canvas: tuple[int, int] | None = preprocessing.size
        self.keep_aspect = preprocessing.keep_aspect
        self.exported = exported
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        self.scale, self.shift = nn.Buffer(1 / (255 * std)), nn.Buffer(-mean / std)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.permute(0, 3, 1, 2)
        size: Size = (images.shape[1], images.shape[2])
        unpadded_size = size  # the size of the resized image, before padding
        if self.canvas is not None:
            unpadded_size = traced_fitted_size(size, self.canvas) if self.keep_aspect else self.canvas
            sides = torch.stack([torch.as_tensor(side) for side in unpadded_size])
            pixels = ResizeAndPad.apply(pixels, sides, self.canvas)
        return self.exported(pixels.float() * self.scale + self.shift, size, unpadded_size)


def traced_fitted_size(size: Size, canvas: tuple[int, int]) -> Size:
    """Return the result of `kit.data.decode.fitted_size`, computed by operations that can be traced."""
    sides = torch.stack([torch.as_tensor(side).double() for side in size])
    factor = (torch.tensor(canvas, dtype=torch.double) / sides).min()
    fitted = (sides * factor).round().clamp(min=1).long()
    return fitted[0], fitted[1]


class ResizeAndPad(torch.autograd.Function):
    """Resize images, uint8 [B C H W], and pad them at the right and bottom.

    `unpadded_size`, Long[2], is the height and width before padding, and `canvas` the height and width after padding.
    ONNX's antialiased `Resize` on uint8, with `exclude_outside`, resizes as PIL and torch do. Rounding in onnxruntime
    changes pixels by at most 2.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, unpadded_size: Tensor, canvas: tuple[int, int]) -> Tensor:
        height, width = unpadded_size.tolist()
        return torch.stack([pad(resize(image, (height, width)), canvas) for image in pixels])

    @staticmethod
    def symbolic(g: Any, pixels: Any, unpadded_size: Any, canvas: tuple[int, int]) -> Any:
        def constant(values: Any, dtype: torch.dtype = torch.long) -> Any:
            return g.op("Constant", value_t=torch.tensor(values, dtype=dtype))

        size = g.op("Concat", g.op("Shape", pixels, start_i=0, end_i=2), unpadded_size, axis_i=0)
        none = constant([], torch.float)
        resized = g.op("Resize", pixels, none, none, size, mode_s="linear", antialias_i=1, exclude_outside_i=1)
        padding = g.op("Concat", constant([0] * 6), g.op("Sub", constant(canvas), unpadded_size), axis_i=0)
        return g.op("Pad", resized, padding, constant(PADDING, torch.uint8))


def bicubic(g: Any, maps: Any, size: Any, *_: Any) -> Any:
    """Add antialiased bicubic resizing to a graph, for the position embeddings of vision transformers.

    `size` is the height and width, as two constants or as one constant. torch's coefficient for this operation is -0.5.
    """
    none = g.op("Constant", value_t=torch.tensor([], dtype=torch.float))
    shape = maps.type().sizes()  # known only for a constant, whose `Shape` the exporter would get wrong
    first = g.op("Constant", value_t=torch.tensor(shape[:2])) if shape else g.op("Shape", maps, start_i=0, end_i=2)
    sizes = g.op("Concat", first, size, axis_i=0)
    options = {"mode_s": "cubic", "cubic_coeff_a_f": -0.5, "antialias_i": 1, "exclude_outside_i": 1}
    return g.op("Resize", maps, none, none, sizes, **options)


class MatrixPool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling by matrix products.

    For `nn.AdaptiveAvgPool2d`, the exporter supports only output sizes that divide the input size. A traced graph is
    valid only for the input size of its example, since the matrices are constants in it.
    """

    def forward(self, input: Tensor) -> Tensor:
        sides = zip(input.shape[-2:], _pair(self.output_size), strict=True)
        # Each of these matrices, Float[size side], maps `side` values to `size` means of neighbours.
        identities = [(torch.eye(int(side))[None], size or int(side)) for side, size in sides]
        pool_rows, pool_columns = (F.adaptive_avg_pool1d(*pair)[0].T for pair in identities)
        return pool_rows @ input @ pool_columns.T


def replace_pools(net: nn.Module) -> nn.Module:
    """Replace each `nn.AdaptiveAvgPool2d` whose output is larger than 1 x 1 by `MatrixPool`, and return the net."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and _pair(module.output_size) != (1, 1):
            net.set_submodule(name, MatrixPool(module.output_size))
    return net
