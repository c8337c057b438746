"""A checkpoint may name classes in the checkout of the application, and no other code beside them runs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from kit.checkpoints import trust
from kit.checkpoints.own_code import is_own_class
from kit.ground import app
from kit.ground.errors import UserError

RUNS = "from pathlib import Path\nPath('touched').touch()\n"  # what importing a script does
NET = "from torch import nn\nclass Net(nn.Module):\n    pass\n"
FILES = {
    "pyproject.toml": "",
    "src/own_app/__init__.py": "",
    "src/own_nets/__init__.py": "from own_nets.deep import Net as Deep\nfrom torch.nn import Linear\n",
    "src/own_nets/deep.py": NET,
    "src/own_nets/broken.py": f"{RUNS}class Net(",
    "src/own_nets/_private.py": NET,
    "own_net.py": f"{NET}class Options:\n    pass\nclass Log(list):\n    pass\nmake, net = lambda: Net(), Net()\n",
    "own_script.py": f"{RUNS}from torch.nn import Linear\n",
    "own_tests/evil.py": f"{RUNS}{NET}",  # a folder without `__init__.py`
    "runs/stranger_net.py": f"{RUNS}{NET}",
    "elsewhere/installed_net.py": f"{RUNS}{NET}",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Iterator[Path]:
    """The root of a checkout whose application is `own_app`, from which a verb is run."""
    before, root = {*sys.modules}, tmp_path / "checkout"
    for file, text in FILES.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    monkeypatch.chdir(root)
    for folder in ("elsewhere", "src", "."):
        monkeypatch.syspath_prepend(str((root / folder).resolve()))
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "parts"))
    monkeypatch.setattr(app, "package", "own_app")
    yield root
    for name in [name for name in {*sys.modules} - before if name.startswith("own_")]:
        del sys.modules[name]


def check(net: str) -> None:
    trust.check_checkpoint(
        {"hyper_parameters": {"_class_path": "strangers.Task", "net": net}}, Path("x"), ["strangers"]
    )


@pytest.mark.parametrize("path", ["own_net.Net", "own_nets.deep.Net", "own_nets.Deep"])
def test_own_classes_of_the_kind_are_accepted(checkout, path):
    check(path)


REFUSED = [  # the name, and words of the message
    ("own_net.make", "'own_net' is not trusted"),  # a function
    ("own_net.net", "not trusted"),
    ("own_net.Options", "not trusted"),  # without base classes
    ("own_net.Log", "not of the class Module"),
    ("own_net.nn.Linear", "not trusted"),
    ("own_nets.Linear", "another name of 'torch.nn"),
    ("own_nets._private.Net", "not trusted"),
    ("own_nets.broken.Net", "not trusted"),
    ("own_script.Linear", "not trusted"),
    ("own_script.Anything", "not trusted"),
    ("own_tests.evil.Net", "not trusted"),
    (f"own_nets.{'x' * 300}.Net", "not trusted"),
    ("runs.stranger_net.Net", "not trusted"),
    ("installed_net.Net", "not trusted"),
    ("made_net.Net", "not trusted"),
    ("__main__.Net", "not trusted"),
    ("sys.Net", "'sys' is not trusted"),
    ("subprocess.Popen", "'subprocess' is not trusted"),
]


@pytest.mark.parametrize(("path", "words"), REFUSED, ids=[path[:30] for path, _ in REFUSED])
def test_everything_else_is_refused_and_scripts_do_not_run(checkout, path, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "made_net", ModuleType("made_net"))
    with pytest.raises(UserError, match=words) as caught:
        check(path)
    assert "\n" not in str(caught.value)
    assert not Path("touched").exists()


def test_installed_application_has_no_checkout(checkout):
    """All libraries lie beside it."""
    assert is_own_class("own_nets.deep.Net")
    (checkout / "pyproject.toml").unlink()
    assert not is_own_class("own_nets.deep.Net") and not is_own_class("own_net.Net")


def test_module_of_the_same_name_that_python_finds_first_is_refused(checkout, monkeypatch):
    (checkout / "src/own_hidden.py").write_text(NET)
    (checkout / "elsewhere/own_hidden.py").write_text(f"{RUNS}{NET}")
    assert is_own_class("own_hidden.Net")
    monkeypatch.syspath_prepend(str(checkout / "elsewhere"))
    with pytest.raises(UserError, match="'own_hidden' is not trusted"):
        check("own_hidden.Net")
    assert not Path("touched").exists()
