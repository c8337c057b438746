"""Store the name of the application that uses this library: a package with one module for each verb.

The application's `__init__.py` calls `use`, so that this library does not have to know the name.
"""

package = "PACKAGE"


def use(name: str) -> None:
    """Set the name of the application's package. Checkpoints may name its classes, and messages show it."""
    global package
    package = name


def command(verb: str) -> str:
    """Return the shell command of a verb, such as `python -m PACKAGE.fit`."""
    return f"python -m {package}.{verb}"
