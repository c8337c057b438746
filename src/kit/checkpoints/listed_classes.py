"""List the classes of other libraries that a checkpoint or a config of unknown origin may name."""

import sys
from importlib import import_module

import torch

EVERY = None  # every class whose name has no leading underscore
# Maps modules to names of classes. These classes start no programs, download nothing (`download` is switched off) and
# write no files, except logs, profiles and checkpoints in the run's folder. For `torch`, the names are its dtypes.
LISTED: dict[str, tuple[str, ...] | None] = {
    "torch": tuple(name for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
    "torch.nn": EVERY,
    "torch.optim": EVERY,
    "torch.optim.lr_scheduler": EVERY,
    "torchvision.transforms.v2": EVERY,
    # Data sets that unpack archives, make folders or unpickle files of unknown content are left out.
    "torchvision.datasets": (
        *("CIFAR10", "CIFAR100", "Country211", "DTD", "EMNIST", "FashionMNIST", "FGVCAircraft", "Flowers102"),
        *("Food101", "GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet", "QMNIST", "STL10", "SVHN"),
    ),
    "lightning.pytorch.callbacks": (
        *("BackboneFinetuning", "DeviceStatsMonitor", "EarlyStopping", "EMAWeightAveraging"),
        *("GradientAccumulationScheduler", "LearningRateMonitor", "ModelCheckpoint"),
        *("ModelSummary", "OnExceptionCheckpoint", "RichModelSummary", "RichProgressBar", "StochasticWeightAveraging"),
        *("ThroughputMonitor", "Timer", "TQDMProgressBar", "WeightAveraging"),
    ),
    "lightning.pytorch.loggers": ("CSVLogger", "TensorBoardLogger"),
    "lightning.pytorch.profilers": ("AdvancedProfiler", "SimpleProfiler"),
}


def is_listed(module: str, name: str) -> bool:
    """Return whether a class is in `LISTED`. Its module may be inside of a listed module, such as `torch.optim.sgd`.

    Args:
        module: the module in the class path, without the name of the class.
        name: the name of the class.
    """
    for listed, names in LISTED.items():
        is_inside = f"{module}.".startswith(f"{listed}.")
        if is_inside and (name in names if names is not EVERY else not name.startswith("_")):
            public_class = getattr(import_module(listed), name, None)  # None if there is no such name
            if module == listed or (public_class and getattr(sys.modules.get(module), name, None) is public_class):
                return True
    return False
