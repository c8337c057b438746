"""Numbers in a range: what each type accepts, and that a config gets plain numbers."""

import math

import pytest
from refused import messages

from kit.config.parser import PlainParser
from kit.data.decode import ImageSize
from kit.ground import ranges
from kit.ground.ranges import NonNegativeInt, PositiveInt, Share

NUMBERS = {  # accepted, refused
    "PositiveInt": ([1, "7"], [0, -1, 1.0, "1.5", True, "x", [1]]),
    "NonNegativeInt": ([0, 3], [-1, 0.5, False]),
    "FiniteFloat": ([-2.5, 3, "1e-3"], [math.inf, math.nan, "nan", "x", True]),
    "PositiveFloat": ([1e-9, 2], [0, -1.0, math.inf]),
    "NonNegativeFloat": ([0, 0.0], [-1e-9, math.nan]),
    "Share": ([0, 1, 0.5], [1.1, -0.1]),
    "ShareBelowOne": ([0, 0.99], [1, 1.0]),
}


class Net:
    """A class with arguments of many types."""

    def __init__(
        self,
        depth: PositiveInt | list[PositiveInt] = 2,
        workers: NonNegativeInt | None = None,
        share: Share = 0.5,
        size: ImageSize = (2, 3),
    ) -> None:
        self.arguments = depth, workers, share, size


def read(words):
    parser = PlainParser()
    parser.add_class_arguments(Net, "net")
    return parser, parser.read(words)


@pytest.mark.parametrize(("name", "accepted", "refused"), [(name, *numbers) for name, numbers in NUMBERS.items()])
def test_numbers_that_a_type_accepts(name, accepted, refused):
    parser = PlainParser()
    parser.add_argument("--number", type=getattr(ranges, name))
    for number in accepted:
        value = parser.parse_object({"number": number}).number
        assert type(value) in (int, float) and value == float(number)
    for number in refused:
        with pytest.raises(Exception, match="number"):
            parser.parse_object({"number": number})


def test_values_are_plain_and_survive_config_yaml():
    parser, config = read(["--net.depth=[3, 4]", "--net.workers=0", "--net.share=1", "--net.size=[5, 6]"])
    built = parser.instantiate(config).net
    assert built.arguments == ([3, 4], 0, 1, (5, 6))
    assert [type(number) for number in (*built.arguments[0], built.arguments[1])] == [int] * 3
    again = parser.parse_string(parser.dump(config))
    assert again == config


def test_message_names_the_key_the_value_and_the_range():
    depth, workers, share, size = messages(Net, depth=0, workers=-1, share=1.5, size="[5, 0]")
    assert all(word in depth for word in ("it.depth", "0", "whole number above 0"))
    assert all(word in workers for word in ("it.workers", "-1", "at least 0"))
    assert all(word in share for word in ("it.share", "1.5", "from 0 to 1"))
    assert all(word in size for word in ("it.size", "0", "whole number above 0"))
