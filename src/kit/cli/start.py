"""Start a verb: print its page of help, or import what it needs and run it.

A verb is a command such as `fit` or `predict`.
"""

import gc
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from kit.config.arguments import HELP
from kit.ground import app

PAGES = Path(__file__).with_name("help")  # a page for each verb, shown before torch is imported, which takes seconds


def start(module: str, verb: str) -> NoReturn:
    """Run a verb with the arguments of this process, and end the process.

    `--help` prints the verb's page. `--help all` also prints the help of its argument parser, which lists all options.

    Args:
        module: the module that has the verb's function.
        verb: the name of the verb and of its function.
    """
    if index := next((index for index, argument in enumerate(sys.argv) if argument in HELP), 0):
        print(page(verb), flush=True)
        if sys.argv[index + 1 : index + 2] != ["all"]:
            sys.exit(0)
        del sys.argv[index + 1]
    gc.disable()  # saves a fifth of the time of the imports, which create no garbage; `main` enables it again
    # torchmetrics imports matplotlib, which warns if it must keep its cache in a temporary folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from kit.cli.process import main

    main(getattr(import_module(module), verb))


def page(verb: str) -> str:
    """Return a verb's page of help."""
    return (PAGES / f"{verb}.txt").read_text(encoding="utf-8").replace("COMMAND", app.command(verb))
