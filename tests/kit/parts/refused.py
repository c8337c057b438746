"""What the command line says about arguments that are out of range."""

from typing import Any

import pytest

from kit.config.parser import PlainParser
from kit.ground.errors import UserError


def messages(kind: type, **arguments: Any) -> list[str]:
    """Return the error message for each argument of a class, given alone."""
    found = []
    for key, value in arguments.items():
        parser = PlainParser()
        parser.add_class_arguments(kind, "it", fail_untyped=False)
        with pytest.raises(UserError) as caught:
            parser.read([f"--it.{key}={value}"])
        found.append(str(caught.value))
    return found


def assert_refused(kind: type, **arguments: Any) -> None:
    """Check that each argument of a class, given alone, is refused in one line that names it."""
    for key, message in zip(arguments, messages(kind, **arguments), strict=True):
        assert message.startswith(f"it.{key} is") and "\n" not in message, message
