"""What the class names and their counts tell, and the groups."""

import re
from collections import defaultdict
from collections.abc import Sequence

from kit.checks.images import Image
from kit.ground.faults import Fault, fault

FEW = 10  # training examples
SHARE = 100  # of the largest class


def class_faults(names: Sequence[str], counts: dict[str, list[int]]) -> list[Fault]:
    """
    Args:
        counts: of each split, how often each class occurs.
    """
    found: list[Fault] = []
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[_plain(name)].append(name)
    for several in spellings.values():
        if len(several) > 1:
            said = " and ".join(f"'{name}'" for name in several)
            found.append(fault("class-spelled-twice", "", f"{said} are two classes; if they mean the same, join them"))
    for split, numbers in counts.items():
        gone = [f"'{name}'" for name, number in zip(names, numbers, strict=True) if not number]
        for name in gone:
            found.append(fault("class-missing", "", f"{split} has no example of {name}; its figures leave it out"))
    train = counts.get("train", [])
    for name, number in zip(names, train, strict=False):
        if 0 < number < max(FEW, max(train) / SHARE):
            or_else = ", or balance the classes" if len(train) > 1 else ""
            message = f"'{name}' has {number:,} of {sum(train):,} in train; add some{or_else}"
            found.append(fault("class-rare", "", message))
    return found


def _plain(name: str) -> str:
    """Without what people mean nothing by. A single letter's case is its meaning."""
    bare = re.sub(r"[\s_-]+", "", name)
    return bare if len(bare) == 1 else bare.casefold()


def group_faults(files: Sequence[Image]) -> list[Fault]:
    """Groups with images in two splits: one fault a group, at its first image in the later one."""
    home: dict[str, Image] = {}
    found: dict[str, Fault] = {}
    for file in files:
        if file.group is None:
            continue
        first = home.setdefault(file.group, file)
        if first.split != file.split and file.group not in found:
            message = f"of group '{file.group}', which {first.split} has too ({first}); move the group to one split"
            found[file.group] = fault("group-straddles", file, message, first)
    return list(found.values())
