"""All uses of private names of torch and torchvision, tested with torch 2.12 to 2.14 and torchvision 0.27 to 0.29.

tests/kit/ground/test_private_names.py fails if a name is missing.
"""

from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # noqa: F401
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, SequentialLR
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only  # noqa: F401
from torchvision.models.detection.rpn import RegionProposalNetwork


def version_of(tensor: Tensor) -> int:
    """Return how many times a tensor was changed in place."""
    return tensor._version


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module or one of its submodules was compiled, in place or by `torch.compile(module)`."""
    parts = list(module.modules())
    return any(isinstance(part, OptimizedModule) or part._compiled_call_impl is not None for part in parts)


def inner_schedules(schedule: LRScheduler) -> list[LRScheduler]:
    """Return the schedules inside a `SequentialLR` or a `ChainedScheduler`; [] for any other schedule."""
    return list(schedule._schedulers) if isinstance(schedule, (SequentialLR, ChainedScheduler)) else []


def proposal_limits(proposer: RegionProposalNetwork) -> list[dict[str, int]]:
    """Return the largest numbers of proposals before and after NMS, as dicts that can be changed in place."""
    return [proposer._pre_nms_top_n, proposer._post_nms_top_n]
