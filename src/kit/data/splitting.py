"""Split samples reproducibly into two parts with about the same proportions of labels, without dividing groups."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kit.ground.errors import UserError


def stratified_split(
    labels: Tensor, fraction: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the indices of the larger part and of the smaller part, each Long[M] in ascending order.

    scikit-learn's `StratifiedGroupKFold` is similar, but takes a quarter of a second to import.

    Args:
        labels: the label of each sample, Long[N].
        fraction: the fraction of each label's samples that the smaller part gets. Their number is rounded, but if a
            label has two or more samples, each part gets at least one. A label's only sample stays in the larger part.
            If every label has only one sample, one random sample goes to the smaller part.
        groups: the group of each sample. The groups are visited in random order. A group goes to the smaller part as
            a whole if this brings the label counts of this part nearer to `fraction` and leaves a sample of each label
            in the larger part. If no group meets both conditions, one group goes to the smaller part: the smallest of
            those that do not hold all samples of a label or, if there is none, the smallest of all.

    Raises:
        UserError: all samples are in one group, or the number of samples is below 2.
    """
    if len(labels) < 2:
        raise UserError(f"{len(labels)} image(s) cannot be split into train and val; add images or a val folder")
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels)
    target_counts = (counts * fraction).round().long().clamp(min=1).minimum(counts - 1).clamp(min=0)
    is_small = torch.zeros(len(labels), dtype=torch.bool)
    if groups is None:
        for label, count in enumerate(target_counts.tolist()):
            members = (labels == label).nonzero()[:, 0]
            is_small[members[torch.randperm(len(members), generator=generator)[:count]]] = True
        if not is_small.any():  # every label has a single sample
            is_small[torch.randint(len(labels), (1,), generator=generator)] = True
    else:
        group_indices = {name: i for i, name in enumerate(sorted(set(groups)))}
        if len(group_indices) < 2:
            raise UserError(f"all images belong to one group ({groups[0]!r}), so they cannot be split by group")
        group_of = torch.tensor([group_indices[name] for name in groups])
        per_group = torch.zeros(len(group_indices), len(counts), dtype=torch.long)
        per_group.index_put_((group_of, labels), torch.ones_like(labels), accumulate=True)
        small_counts = torch.zeros_like(target_counts)
        # 1 in place of 0, since a label without samples must not prevent a choice.
        nonzero_counts = counts.where(counts > 0, 1)
        chosen: list[int] = []
        for group in torch.randperm(len(group_indices), generator=generator).tolist():
            new_counts = small_counts + per_group[group]
            is_nearer = (target_counts - new_counts).abs().sum() < (target_counts - small_counts).abs().sum()
            if is_nearer and (new_counts < nonzero_counts).all():
                small_counts = new_counts
                chosen.append(group)
        if not chosen:  # take the smallest group, if possible one that does not have all samples of a label
            has_whole_label = (per_group == nonzero_counts).any(1)
            chosen = [int((per_group.sum(1) + len(labels) * has_whole_label).argmin())]
        is_small = torch.isin(group_of, torch.tensor(chosen))
    return (~is_small).nonzero()[:, 0], is_small.nonzero()[:, 0]
