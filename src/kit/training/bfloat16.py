"""Mixed precision in bfloat16."""

from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

MIXED: Literal["bf16-mixed"] = "bf16-mixed"


class BFloat16Mixed(MixedPrecision):
    """Lightning's `bf16-mixed`, which also clips the gradients of fused optimizers.

    Lightning refuses to clip the gradients of fused optimizers in mixed precision. This is necessary only in fp16,
    where a fused optimizer divides the gradients by the loss scale within its step, after clipping. bfloat16 has no
    loss scale.

    Args:
        device: the type of the device, such as `cuda`.
    """

    def __init__(self, device: str) -> None:
        super().__init__(MIXED, device)

    def clip_gradients(self, *args: Any, **kwargs: Any) -> None:
        Precision.clip_gradients(self, *args, **kwargs)


def clip_fused(trainer: L.Trainer) -> None:
    """Let a trainer in `bf16-mixed` clip the gradients of fused optimizers: see `BFloat16Mixed`."""
    plugin = trainer.precision_plugin
    if type(plugin) is MixedPrecision and plugin.precision == MIXED:
        trainer.strategy.precision_plugin = BFloat16Mixed(plugin.device)


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16. Others emulate it slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
