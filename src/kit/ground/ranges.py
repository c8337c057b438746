"""Types of numbers in a range, for the arguments that a config sets. The parser refuses any other number.

The parser returns plain numbers, which checkpoints can contain. With the restricted types of jsonargparse, it would
return numbers of other classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import register_type

from kit.ground.errors import UserError


def _number_in_range(kind: type, description: str, accepts: Callable[[Any], bool]) -> type:
    """Return a new type of numbers. Its name is the description, which error messages and `--help` show.

    Args:
        kind: `int` or `float`.
        accepts: returns whether a number is in the range.
    """

    def is_valid(value: Any, *_: Any) -> bool:
        return type(value) in (int, kind) and accepts(value)

    def read(value: Any) -> Any:
        number = kind(value) if isinstance(value, str) else value
        if not is_valid(number):
            raise ValueError(f"Got value: {value}")
        return number

    number_type = type(description, (kind,), {})
    register_type(number_type, lambda number: number, read, type_check=is_valid)
    return number_type


if TYPE_CHECKING:
    PositiveInt = int
    NonNegativeInt = int
    FiniteFloat = float
    PositiveFloat = float
    NonNegativeFloat = float
    Share = float
    ShareBelowOne = float
else:
    PositiveInt = _number_in_range(int, "a whole number above 0", lambda number: number > 0)
    NonNegativeInt = _number_in_range(int, "a whole number of at least 0", lambda number: number >= 0)
    FiniteFloat = _number_in_range(float, "a finite number", math.isfinite)
    PositiveFloat = _number_in_range(float, "a finite number above 0", lambda number: 0 < number < math.inf)
    NonNegativeFloat = _number_in_range(float, "a finite number of at least 0", lambda number: 0 <= number < math.inf)
    Share = _number_in_range(float, "a number from 0 to 1", lambda number: 0 <= number <= 1)
    ShareBelowOne = _number_in_range(float, "a number from 0 to below 1", lambda number: 0 <= number < 1)

PositiveInts = Sequence[PositiveInt]
PositivePair = tuple[PositiveFloat, PositiveFloat]


def require_not_empty(widths: PositiveInts) -> None:
    """Raise `UserError` if a net would have no level, since the list of its widths is empty."""
    if not widths:
        raise UserError("model.net.widths is empty, but must have a number for each level")
