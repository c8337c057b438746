"""Check class names, class counts, and the groups of images."""

import re
from collections import defaultdict
from collections.abc import Sequence

from kit.checks.images import CheckedImage
from kit.ground.faults import Fault, fault

MIN_EXAMPLES = 10  # a class with fewer training examples is rare
MAX_RATIO = 100  # a class is also rare if the largest class has more than this many times its number of examples


def class_faults(names: Sequence[str], counts: dict[str, list[int]]) -> list[Fault]:
    """Return faults for classes that have two spellings, no examples, or few examples.

    Args:
        counts: the class counts of each split. A negative count is unknown.
    """
    faults: list[Fault] = []
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        letters = re.sub(r"[\s_-]+", "", name)
        spellings[letters if len(letters) == 1 else letters.casefold()].append(name)  # the letter `a` is not `A`
    for same_names in spellings.values():
        if len(same_names) > 1:
            message = f"{' and '.join(map(repr, same_names))} are different classes; if they mean the same, join them"
            faults.append(fault("class-spelled-twice", "", message))
    for split, numbers in counts.items():
        known_numbers = [max(number, 0) for number in numbers]
        for name, number in zip(names, numbers, strict=True):
            if number == 0:
                effect = "the model cannot learn it" if split == "train" else f"the {split} metrics leave it out"
                message = f"{split} has no example of '{name}'; {effect}"
                faults.append(fault("class-missing", "", message))
            elif split == "train" and 0 < number < max(MIN_EXAMPLES, max(known_numbers) / MAX_RATIO):
                note = ", which is not split off for validation" if number == 1 and "val" not in counts else ""
                message = f"'{name}' has {number:,} of {sum(known_numbers):,} training examples{note}; add some"
                faults.append(fault("class-rare", "", message))
    return faults


def group_faults(files: Sequence[CheckedImage]) -> list[Fault]:
    """Return a fault for each group with images in two splits, at its first image in the later split."""
    first_images: dict[str, CheckedImage] = {}
    faults: dict[str, Fault] = {}
    for file in files:
        if file.group is not None:
            first = first_images.setdefault(file.group, file)
            if first.split != file.split and file.group not in faults:
                message = f"in group '{file.group}', also in {first.split} ({first}); move the group to one split"
                faults[file.group] = fault("group-straddles", file, message, other=first)
    return list(faults.values())
