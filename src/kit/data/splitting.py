"""Splitting samples: stratified, reproducible, and never through a group."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kit.ground.errors import UserError


def stratified(
    labels: Tensor, fraction: float, seed: int, groups: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Indices of the larger and of the smaller part, each in ascending order.

    scikit-learn's `StratifiedGroupKFold` does the same and takes a quarter of a second to import.

    Args:
        labels: Long[N].
        fraction: the share of each label that the smaller part gets, rounded; a label with two samples or more keeps
            at least one on each side.
        groups: one name a sample; whole groups go to the smaller part, in random order, each where it brings the
            label counts nearer to what is wanted.

    Raises:
        UserError: all samples are one group, or there are fewer than two.
    """
    if len(labels) < 2:
        raise UserError(
            f"{len(labels)} image(s) cannot be split into training and validation; add images or a val folder"
        )
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels)
    wanted = (counts * fraction).round().long().clamp(min=1).minimum(counts - 1).clamp(min=0)
    small = torch.zeros(len(labels), dtype=torch.bool)
    if groups is None:
        for label, number in enumerate(wanted.tolist()):
            members = (labels == label).nonzero()[:, 0]
            small[members[torch.randperm(len(members), generator=generator)[:number]]] = True
        if not small.any():  # every label has a single sample
            small[torch.randint(len(labels), (1,), generator=generator)] = True
    else:
        names = sorted(set(groups))
        if len(names) < 2:
            raise UserError(f"all images belong to one group ({names[0]!r}), so they cannot be split by group")
        place = {name: i for i, name in enumerate(names)}
        member = torch.tensor([place[name] for name in groups])
        per_group = torch.zeros(len(names), len(counts), dtype=torch.long)
        per_group.index_put_((member, labels), torch.ones_like(labels), accumulate=True)
        have = torch.zeros_like(wanted)
        taken: list[int] = []
        for group in torch.randperm(len(names), generator=generator).tolist():
            after = have + per_group[group]
            if len(taken) < len(names) - 1 and (wanted - after).abs().sum() < (wanted - have).abs().sum():
                have = after
                taken.append(group)
        if not taken:  # each group alone is larger than the part: the smallest has to do
            taken = [int(per_group.sum(1).argmin())]
        small = torch.isin(member, torch.tensor(taken))
    return (~small).nonzero()[:, 0], small.nonzero()[:, 0]
