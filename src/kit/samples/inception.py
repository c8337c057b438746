"""Standard FID (Heusel et al. 2017), in the features of Inception v3 as TensorFlow trained it in 2015.

Papers report FID mostly of 50,000 samples; it falls as there are more. The images are enlarged to 299x299 pixels as in
the original program, and grey images get three channels.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.ground.checkpoint_limits import require_weights
from kit.ground.drawing import to_rgb
from kit.ground.errors import UserError, one_line

FEATURES = 2048  # the size of the last layer before the classes
CHUNK = 50  # the number of images that the net gets at a time
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # of release v0.2.0 of torch-fidelity


def load(file: str, device: torch.device | str = "cpu") -> Any:
    """Return the metric of torchmetrics. When it is reset, it keeps the real images.

    Args:
        file: the weights of the net, with the names of torch-fidelity.
        device: the device to compute on.

    Raises:
        UserError: torch-fidelity is not installed, or the file does not exist or holds something else.
    """
    if find_spec("torch_fidelity") is None:
        raise UserError("model.inception needs torch-fidelity: pip install -c constraints.txt -e '.[fid]'")
    from torchmetrics.image.fid import FrechetInceptionDistance

    if not Path(file).is_file():
        raise UserError(f"model.inception: no file {file}; {WEIGHTS} of torch-fidelity's releases has the weights")
    tensors = BytesIO()  # a copy without code, since torch-fidelity would run code that is pickled in the file
    try:
        require_weights(Path(file))
        torch.save(torch.load(file, map_location="cpu", weights_only=True), tensors)
        tensors.seek(0)
        options = {"reset_real_features": False, "antialias": False, "sync_on_compute": False}  # only rank 0 has it
        return FrechetInceptionDistance(FEATURES, feature_extractor_weights_path=tensors, **options).to(device)
    except Exception as error:  # a damaged file, or the weights of another net, can raise any exception
        why = one_line(error)
        raise UserError(f"model.inception: {file} holds no weights of Inception, as {WEIGHTS} does ({why})") from None


@torch.inference_mode()
def distances(file: str, real: Tensor, others: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """Return the FID between real images and each of the others, all uint8 [N C H W]."""
    metric = load(file, device)
    _update(metric, real, is_real=True)
    values = {}
    for name, images in others.items():
        metric.reset()
        _update(metric, images, is_real=False)
        values[name] = max(0.0, float(metric.compute()))
    return values


def _update(metric: Any, images: Tensor, is_real: bool) -> None:
    for part in images.split(CHUNK):
        metric.update(torch.stack([to_rgb(image) for image in part]).to(metric.device), real=is_real)
