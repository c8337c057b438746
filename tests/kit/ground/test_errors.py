from pathlib import Path

import pytest

from kit.ground.errors import UserError, import_extra


@pytest.fixture(autouse=True)
def packages(tmp_path, monkeypatch):
    for name, code in (
        ("whole", "VALUE = 3"),
        ("lacks", "import no_such_dependency"),
        ("old", "from math import tan9"),
    ):
        Path(tmp_path, f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.part"])
def test_package_that_is_not_installed(package):
    assert import_extra("whole", "a net", "zoo").VALUE == 3
    with pytest.raises(UserError, match=rf"^a net needs {package}: pip install -e '\.\[zoo\]'$"):
        import_extra(package, "a net", "zoo")


@pytest.mark.parametrize(("package", "cause"), [("lacks", "no_such_dependency"), ("old", "tan9")])
def test_cause_is_named_if_an_installed_package_cannot_be_imported(package, cause):
    with pytest.raises(UserError, match=f"{package} is installed, but cannot be imported: .*{cause}") as raised:
        import_extra(package, "a net", "zoo")
    assert "\n" not in str(raised.value)
