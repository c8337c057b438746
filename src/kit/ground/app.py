"""The application that uses this library: a package with a module for each verb.

Its `__init__.py` hands its name over, so that this library does not have to know it.
"""

package = "PACKAGE"


def use(name: str) -> None:
    """Set the name of the application's package, whose classes checkpoints may name and which messages show."""
    global package
    package = name


def command(verb: str) -> str:
    """Return how a verb is called: `python -m PACKAGE.fit`."""
    return f"python -m {package}.{verb}"
