"""Describe the data of a run: lines that are printed before training, and a chart of the labels."""

from collections.abc import Mapping, Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.charts import Bars, Chart
from kit.data.contents import SPLITS, Contents
from kit.data.loading import SplitDataset
from kit.data.samples import Files, Samples
from kit.ground.terminal import escape


def describe(
    data: Contents, splits: Mapping[str, Samples | None], val_is_split_off: bool, size_is_known: bool = True
) -> str:
    """Return one line about the data: the format, the number of images, classes and objects, and the size.

    Args:
        data: the data module.
        splits: the samples of each split, or None.
        val_is_split_off: whether validation uses, or will use, a part that is split off from train.
        size_is_known: False leaves out the size.
    """
    existing = {split: samples for split in SPLITS if (samples := splits.get(split)) is not None}
    counts = " / ".join(f"{len(samples):,}" for samples in existing.values())
    facts = [f"{counts} images ({' / '.join(existing)})"]
    noun = "labels" if data.several_labels else data.object_noun
    if noun or data.num_classes > 1:
        facts.append(f"{data.num_classes:,} class{'es' * (data.num_classes != 1)}")
    if noun:
        sums = " / ".join(f"{sum(data.count_classes(samples)):,}" for samples in existing.values())
        facts.append(f"{sums} {noun}")
    line = f"data: {data.format_name or type(data).__name__}, {', '.join(facts)}"
    if val_is_split_off:
        line += "; val is split off from train"
    if not size_is_known:
        return escape(line)
    first = next(iter(existing.values()))
    size = "x".join(map(str, first.shape[1:])) if first.one_size else ""
    if not size:
        line += "; each image keeps its size"
    elif isinstance(first, Files):
        line += f"; {'fitted into' if first.keep_aspect else 'resized to'} {size}"
        line += f", {data.size_source}" if data.image_size is None else ""
    else:
        line += f"; {size} pixels"
    return escape(line)


def report_augmented_size(dataset: SplitDataset, size: Sequence[int]) -> None:
    """Print the size of training images if augmentation changes it. Raise an error if augmentation fails.

    Args:
        dataset: a data set of one image, which is augmented as in training.
        size: the height and width without augmentation.
    """
    augmented = dataset.__getitems__([(0, 0)]).images.shape[2:]
    if augmented != tuple(size):
        message = f"training images are {augmented[0]}x{augmented[1]} (data.augment)"
        message += f", evaluated images are {size[0]}x{size[1]} (data.image_size)"
        rank_zero_only(print)(message, flush=True)


def label_charts(data: Contents, samples: Samples) -> dict[str, Chart]:
    """Return the chart `labels` of how often each class occurs, if this is known for at least two classes."""
    pairs = sorted(zip(data.class_names, data.count_classes(samples), strict=True), key=lambda pair: -pair[1])
    bars = {name: count for name, count in pairs if count >= 0}  # a count of -1 is unknown
    noun, texts = data.object_noun or "images", {name: f"{count:,}" for name, count in bars.items()}
    return {"labels": Bars(f"Training {noun} of each class", noun, bars, texts)} if len(bars) > 1 else {}
