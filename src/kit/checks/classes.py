"""Check the names of classes, how often they occur, and the groups of images."""

import re
from collections import defaultdict
from collections.abc import Sequence

from kit.checks.images import ListedImage
from kit.ground.faults import Fault, fault

FEW = 10  # a class with fewer training examples is rare
RATIO = 100  # a class that is this many times smaller than the largest is rare


def class_faults(names: Sequence[str], counts: dict[str, list[int]]) -> list[Fault]:
    """Return faults for classes that are spelled twice, missing or rare.

    Args:
        counts: for each split, how often each class occurs.
    """
    faults: list[Fault] = []
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[_plain(name)].append(name)
    for same in spellings.values():
        if len(same) > 1:
            message = f"{' and '.join(map(repr, same))} are two classes; if they mean the same, join them"
            faults.append(fault("class-spelled-twice", "", message))
    for split, numbers in counts.items():
        for name, number in zip(names, numbers, strict=True):
            if number == 0:
                message = f"{split} has no example of '{name}'; its figures leave it out"
                faults.append(fault("class-missing", "", message))
            elif split == "train" and 0 < number < max(FEW, max(numbers) / RATIO):
                balance = ", or balance the classes" if len(numbers) > 1 else ""
                message = f"'{name}' has {number:,} of {sum(numbers):,} in train; add some{balance}"
                faults.append(fault("class-rare", "", message))
    return faults


def _plain(name: str) -> str:
    """Return a name without case and separators, which rarely matter. The case of a single letter does."""
    bare = re.sub(r"[\s_-]+", "", name)
    return bare if len(bare) == 1 else bare.casefold()


def group_faults(files: Sequence[ListedImage]) -> list[Fault]:
    """Return a fault for each group with images in two splits, at its first image in the later split."""
    first_images: dict[str, ListedImage] = {}
    faults: dict[str, Fault] = {}
    for file in files:
        if file.group is not None:
            first = first_images.setdefault(file.group, file)
            if first.split != file.split and file.group not in faults:
                message = f"of group '{file.group}', which {first.split} has too ({first}); move the group to one split"
                faults[file.group] = fault("group-straddles", file, message, first)
    return list(faults.values())
