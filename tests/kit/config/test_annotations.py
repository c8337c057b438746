"""What an annotation accepts, in words and by trying."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import pytest
from torch import Tensor, nn

from kit.config.annotations import accepts, describe, find_class

CASES = [  # an annotation, its description, values that it accepts, values that it does not accept
    (int, "a whole number", [3, "3"], [3.5, "x", None, [3]]),
    (int | None, "a whole number or null", [3, None], [3.5, "x"]),
    (int | float, "a whole number or a number", [3, 3.5], ["x"]),
    (float | Tensor, "a number", [0.5], ["x"]),
    (bool | Literal["warn"], "true or false or warn", [True, "warn"], [3]),
    (Literal["none", "ram", "disk"], "none or ram or disk", ["ram"], ["rom"]),
    (tuple[int, int], "a list of 2 values, each a whole number", [[3, 4]], [3, [3], [3, 4, 5]]),
    (Sequence[float], "a list of values, each a number", [[0.5]], [0.5, ["x"]]),
    (Iterable[int] | None, "a list of values, each a whole number or null", [[5], None], [5]),
    (dict[str, int], "a mapping of names to values", [{"a": 1}], [1]),
    (Callable[..., nn.Module], "the path of a class (package.module.Class)", [], [3]),
    (Literal["a", None], "a or null", ["a", None], ["b"]),
    (Any, "any value", [3, "x", None, [3], {"a": 1}], []),
]


@pytest.mark.parametrize(("annotation", "words", "right", "wrong"), CASES, ids=[case[1] for case in CASES])
def test_annotation_in_words_and_values(annotation, words, right, wrong):
    assert describe(annotation) == words
    assert all(accepts(annotation, value) for value in right)
    assert not any(accepts(annotation, value) for value in wrong)


def test_class_is_found_by_its_path_or_its_name():
    assert find_class("torch.nn.ReLU", [nn.Module]) is nn.ReLU
    assert find_class("ReLU", [nn.Module]) is nn.ReLU
    assert all(find_class(text, [nn.Module]) is None for text in ("ReLUU", "torch.nn.ReLUU", "nowhere.ReLU", "math.pi"))
    assert find_class("torch.optim.SGD", [nn.Module]) is None
