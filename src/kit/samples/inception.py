"""Compute the standard FID (Heusel et al. 2017), in the features of TensorFlow's Inception v3 of 2015.

FID falls with the number of samples, and most papers use 50,000. As in the authors' program, images are enlarged to
299x299 pixels. Grey images get three channels.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.ground.checkpoint_limits import refuse_compressed_zip
from kit.ground.drawing import to_rgb
from kit.ground.errors import UserError, import_extra, one_line

FEATURES = 2048  # the number of outputs of the layer before the last
CHUNK = 50  # the number of images in a batch of the net
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # a file of torch-fidelity's release v0.2.0


def load(file: str, device: torch.device | str = "cpu") -> Any:
    """Return torchmetrics' FID metric, with the net loaded. Its `reset` keeps the statistics of the real images.

    Args:
        file: the weights of the net, in the file that torch-fidelity publishes.
        device: the device to compute on.

    Raises:
        UserError: torch-fidelity is not installed, the file does not exist, or it does not hold these weights.
    """
    import_extra("torch_fidelity", "model.inception", "fid")
    from torchmetrics.image.fid import FrechetInceptionDistance

    tensors = BytesIO()  # a copy of the tensors only: torch-fidelity would run code that is in the file
    try:
        refuse_compressed_zip(Path(file))
        torch.save(torch.load(file, map_location="cpu", weights_only=True), tensors)
        tensors.seek(0)
        options = {"reset_real_features": False, "antialias": False, "sync_on_compute": False}  # one process computes
        return FrechetInceptionDistance(FEATURES, feature_extractor_weights_path=tensors, **options).to(device)
    except Exception as error:  # a damaged file, or the weights of another net, can raise any exception
        why = f"{file} is not {WEIGHTS} of torch-fidelity's releases ({one_line(error)})"
        raise UserError(f"model.inception: {why}") from None


@torch.inference_mode()
def distances(file: str, real: Tensor, others: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """Return the FID between the real images and each set of other images, by the name of the set.

    Args:
        file: see `load`.
        real: uint8 [N C H W].
        others: the name of each set, and its images, uint8 [M C H W].
        device: the device to compute on.
    """
    metric = load(file, device)
    _add_images(metric, real, is_real=True)
    values = {}
    for name, images in others.items():
        metric.reset()
        _add_images(metric, images, is_real=False)
        values[name] = max(0.0, float(metric.compute()))
    return values


def _add_images(metric: Any, images: Tensor, is_real: bool) -> None:
    for part in images.split(CHUNK):
        metric.update(torch.stack([to_rgb(image) for image in part]).to(metric.device), real=is_real)
