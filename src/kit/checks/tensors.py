"""Images that come from no files: what can be told without knowing what they show."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Sequence

from tqdm import tqdm

from kit.checks.duplicates import duplicate_faults
from kit.checks.images import Image, Images, labels_of
from kit.ground.faults import Fault, fault


def tensor_faults(images: Images) -> list[Fault]:
    """Constant images, and equal ones, of the splits that are not made of files."""
    listed: list[Image] = []
    found: list[Fault] = []
    same: dict[bytes, list[int]] = defaultdict(list)
    without = {split: part for split, part in images.samples.items() if getattr(part, "paths", None) is None}
    total = sum(len(part) for part in without.values())
    with tqdm(total=total, desc="reading images", disable=not sys.stderr.isatty(), leave=False) as bar:
        for split, part in without.items():
            labels: Sequence[int | None] = labels_of(part) or [None] * len(part)
            for index, label in enumerate(labels):
                pixels = part.read(index).contiguous()
                image = Image(f"sample {index} of {split}", split, label, None)
                if pixels.min() == pixels.max():
                    found.append(fault("constant", image, "one colour all over; remove it"))
                else:
                    digest = hashlib.sha1(pixels.numpy().tobytes() + repr(pixels.shape).encode()).digest()
                    same[digest].append(len(listed))
                listed.append(image)
                bar.update()
    groups = [group for group in same.values() if len(group) > 1]
    return found + duplicate_faults(listed, groups, {}, images.class_names)
