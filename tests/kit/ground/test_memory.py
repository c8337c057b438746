"""Copies of nested values in the machine's memory."""

import torch

from kit.ground.memory import copy_to_cpu


def test_copy_is_independent_and_views_are_copied_once():
    weights = torch.arange(24.0).view(2, 3, 4).permute(0, 2, 1)
    content = {"a": weights, "b": weights.detach(), "state": [{"moment": weights + 1}], "step": torch.tensor(3.0)}
    copied = copy_to_cpu(content)
    expected = weights.clone()
    weights.zero_()
    assert torch.equal(copied["a"], expected) and copied["a"].stride() == weights.stride()
    assert copied["a"].data_ptr() == copied["b"].data_ptr()  # so that it is written once
    assert torch.equal(copied["state"][0]["moment"], expected + 1)


def test_copy_keeps_the_versions_of_a_state_dict():
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert copy_to_cpu(state)._metadata == state._metadata
