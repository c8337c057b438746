"""Find out whether a class path names a class of the owner's own code, without importing anything.

Importing a module runs it, and a file of unknown origin could choose any script of the owner. So the module's source
must define the class.
"""

import ast
from importlib.util import find_spec
from pathlib import Path

from kit.ground import app


def is_own_class(path: str) -> bool:
    """Return whether a class path names a class in the checkout of the application.

    The first module of the path must lie beside the application's package (in `src`), or in the root of the checkout if
    Python finds it there. The last module must define the class or, if it is an `__init__.py`, import the class.
    """
    *modules, name = path.split(".")
    if "._" in f".{path}":
        return False
    try:
        package, spec = find_spec(app.package), find_spec(modules[0])  # this imports nothing
    except ValueError:  # the module is imported, but has no `__spec__`, such as `__main__`
        return False
    if not (package and package.origin and spec and spec.origin):  # a folder without `__init__.py` has no origin
        return False
    source = Path(package.origin).resolve().parents[1]
    folder = Path(spec.origin).parents[1 if spec.submodule_search_locations else 0].resolve()
    # An installed application lies beside all other libraries, and not in a checkout.
    if folder not in (source, source.parent) or not (source.parent / "pyproject.toml").is_file():
        return False
    module = folder.joinpath(*modules)
    return any(_defines_or_imports(file, name) for file in (module.with_suffix(".py"), module / "__init__.py"))


def _defines_or_imports(file: Path, name: str) -> bool:
    """Return whether a module defines a class with base classes, or is an `__init__.py` that imports the name.

    The result is False if there is no such file.
    """
    try:
        statements = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    imports = [node for node in statements if isinstance(node, ast.ImportFrom) and file.name == "__init__.py"]
    imported_names = {alias.asname or alias.name for node in imports for alias in node.names}
    return name in imported_names | {node.name for node in statements if isinstance(node, ast.ClassDef) and node.bases}
