"""Standard FID (Heusel et al. 2017), in the features of Inception v3 as TensorFlow trained it in 2015.

Figures of papers are such: of 50,000 samples most often, and it falls as there are more. The images are enlarged to
299x299 pixels as the original program does it, and grey ones become three channels.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.ground.checkpoint_limits import require_weights
from kit.ground.errors import UserError, one_line

FEATURES = 2048  # of the last layer before the classes
AT_ONCE = 50  # images
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # of torch-fidelity's release v0.2.0


def load(file: str, device: torch.device | str = "cpu") -> Any:
    """torchmetrics' metric, whose real images stay when it is reset.

    Args:
        file: with the net's weights, in the names of torch-fidelity.

    Raises:
        UserError: torch-fidelity is not installed, or the file is not there or holds something else.
    """
    if find_spec("torch_fidelity") is None:
        raise UserError("model.inception needs torch-fidelity: pip install -c constraints.txt -e '.[fid]'")
    from torchmetrics.image.fid import FrechetInceptionDistance

    if not Path(file).is_file():
        raise UserError(f"model.inception: no file {file}; {WEIGHTS} of torch-fidelity's releases has the weights")
    safe = BytesIO()  # torch-fidelity would run what is pickled in the file
    try:
        require_weights(Path(file))
        torch.save(torch.load(file, map_location="cpu", weights_only=True), safe)
        safe.seek(0)
        metric = FrechetInceptionDistance(
            FEATURES,
            reset_real_features=False,
            feature_extractor_weights_path=safe,
            antialias=False,
            sync_on_compute=False,  # of several processes only the first one has it
        )
    except Exception as error:  # there is nothing that a damaged file, or another net's, does not raise
        why = one_line(error)
        raise UserError(f"model.inception: {file} holds no weights of Inception, as {WEIGHTS} does ({why})") from None
    return metric.to(device)


@torch.inference_mode()
def distances(file: str, real: Tensor, others: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
    """FID of each of the others to real images, uint8 [N C H W] all."""
    metric = load(file, device)
    _show(metric, real, is_real=True)
    found = {}
    for name, images in others.items():
        metric.reset()
        _show(metric, images, is_real=False)
        found[name] = max(0.0, float(metric.compute()))
    return found


def _show(metric: Any, images: Tensor, is_real: bool) -> None:
    for some in images.split(AT_ONCE):
        metric.update(in_three_channels(some.to(metric.device)), real=is_real)


def in_three_channels(images: Tensor) -> Tensor:
    """[N 3 H W] of [N C H W]: grey is repeated, and what is beyond the third is left out."""
    return images[:, :1].expand(-1, 3, -1, -1) if images.shape[1] < 3 else images[:, :3]
