"""Limit the memory and the time that a checkpoint of unknown origin can take.

`require_uncompressed` and `refuse_compressed_zip` refuse files that would take more memory than they have bytes.
`Budget` limits the size of a model while it is built from a checkpoint's config.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kit.ground.errors import UserError
from kit.ground.files import require_regular

ZIP = b"PK\3\4"  # the first bytes of a zip file

CREATION = {  # functions that create a tensor
    *(torch.empty, torch.empty_strided, torch.zeros, torch.ones, torch.full, torch.eye, torch.rand, torch.randn),
    *(torch.randint, torch.randperm, torch.arange, torch.linspace, torch.logspace),
}
# The limits grow with the size of the file: see `Budget`.
EXTRA_ELEMENTS = 32_000_000  # are allowed in any case: for metrics, and for a head that is replaced
EXTRA_CALLS = 20_000  # of torch functions are allowed in any case
BYTES_PER_CALL = 4  # each tensor takes at least 200 bytes of the file, and about ten calls to create it


class Budget(TorchFunctionMode):
    """Limit the number of tensor elements that are created in this context, and the number of calls of torch functions.

    A tensor that is too large is refused before it takes memory, and a net with too many layers before it takes time.
    The limits are one element for each byte of the file, plus `EXTRA_ELEMENTS`; and one call for every `BYTES_PER_CALL`
    bytes, plus `EXTRA_CALLS`. Most files have two or four bytes per weight, so their models stay below the limit.

    Args:
        file: the checkpoint that describes the model.

    Raises:
        UserError: code in the context exceeds a limit.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file, size = file, file.stat().st_size
        self.elements_left = size + EXTRA_ELEMENTS
        self.calls_left = size // BYTES_PER_CALL + EXTRA_CALLS

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.calls_left -= 1
        if func in CREATION:
            self.elements_left -= func(*args, **{**kwargs, "device": "meta"}).numel()
        elif func is Tensor.clone:  # torch copies layers with this function
            self.elements_left -= args[0].numel()
        if self.calls_left < 0 or self.elements_left < 0:
            raise UserError(f"{self.file} is refused: the model that it describes is much larger than its weights")
        return func(*args, **kwargs)


def require_uncompressed(file: Path) -> None:
    """Refuse a checkpoint that would take more memory than its file has bytes.

    Raises:
        OSError: the file cannot be read.
        zipfile.BadZipFile: the file is not a complete zip file. Since version 1.6, torch writes zip files.
        ValueError: the file's members together declare more bytes than the file has. `torch.save` never compresses.
    """
    size = require_regular(file)
    with file.open("rb") as stream:
        if stream.read(4) != ZIP:  # torch would read any other file in the format of its versions before 1.6
            raise zipfile.BadZipFile("File is not a zip file")
    with zipfile.ZipFile(file) as archive:
        declared = sum(member.file_size for member in archive.infolist())
        if declared > size:
            raise ValueError(f"it is compressed, or damaged: it declares {declared:,} bytes, but has {size:,}")


def refuse_compressed_zip(file: Path) -> None:
    """Refuse a file of weights if it is a zip file that would take more memory than it has bytes.

    Files of other formats, such as the format of torch before version 1.6, are accepted.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: see `require_uncompressed`.
    """
    require_regular(file)
    if zipfile.is_zipfile(file):
        require_uncompressed(file)
