"""Test the output, the files and the exit codes of the verb `check` and of `fit --check`."""

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from photos import write
from PIL import Image

from kit import checks
from kit.checks.headers import HEADER_CHECKS
from kit.checks.report import brief_text, full_text, shorten
from kit.checks.survey import Survey, worst_first
from kit.cli import verbs
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import KINDS, Fault

CONFIG = ["--config", "tiny.yaml"]
TINY = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "model": {"class_path": "tiny_task.Judge"},
    "data": {"class_path": "photos.Photos", "init_args": {"batch_size": 8, "num_workers": 0}},
}


@pytest.fixture(autouse=True)
def photos() -> None:
    """24 photographs of cats and dogs in train, 6 in val."""
    write()
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))


def check(*args: str) -> int:
    try:
        verbs.check([*CONFIG, *args])
    except SystemExit as ended:
        return ended.code
    return 0


def copied(source: str, target: str) -> None:
    Path("photos", target).write_bytes(Path("photos", source).read_bytes())


def test_clean_data_have_no_faults(capsys):
    assert check("--json", "deep/faults.json") == 0
    output = capsys.readouterr().out
    assert "30 images of photos checked" in output and "nothing is wrong" in output
    assert json.loads(Path("deep/faults.json").read_text()) == []
    assert [path.name for path in Path("deep").iterdir()] == ["faults.json"]


def test_exit_code_is_1_for_errors_and_0_for_warnings(capsys):
    copied("train/cat/1.jpg", "train/cat/x.jpg")
    assert check() == 0
    output = capsys.readouterr().out
    assert "warning  duplicate              1  train/cat/x.jpg: the same image as train/cat/1.jpg" in output
    for number in range(5):
        copied(f"train/dog/{number}.jpg", f"val/dog/x{number}.jpg")
    assert check() == 1
    lines = capsys.readouterr().out.splitlines()
    text = (
        "val/dog/x{0}.jpg: the same image as train/dog/{0}.jpg of train; remove one of them, or val scores are inflated"
    )
    at = lines.index(f"error    leak                   5  {text.format(0)}")
    assert lines[at + 1 : at + 4] == [" " * 35 + rest for rest in (text.format(1), text.format(2), "and 2 more")]
    assert "5 errors and 1 warning" in lines
    assert (
        lines.index("5 errors and 1 warning") > next(i for i, line in enumerate(lines) if "warning  dup" in line) > at
    )


def test_json_lists_all_faults_and_html_shows_pairs(capsys):
    for number in range(9):
        copied(f"train/dog/{number}.jpg", f"val/dog/x{number}.jpg")
    Path("photos/train/cat/<odd> & 'name'.jpg").write_bytes(b"")
    assert check("--json", "faults.json", "--html", "report.html") == 1
    faults = json.loads(Path("faults.json").read_text())
    assert {tuple(fault) for fault in faults} == {("kind", "severity", "file", "line", "message")}
    assert sorted(fault["file"] for fault in faults if fault["kind"] == "leak") == [
        f"photos/val/dog/x{number}.jpg" for number in range(9)
    ]
    page = Path("report.html").read_text()
    assert "&lt;odd&gt; &amp; &#39;name&#39;.jpg" in page and "<odd>" not in page
    assert page.count("data:image/jpeg;base64,") == 2 * 6  # pairs side by side, of the first six
    assert "http://" not in page and "https://" not in page and page.rstrip().endswith("</html>")
    assert all(f"x{number}.jpg" in page for number in range(9))

    class Balance(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_mistake_on_the_command_line_has_exit_code_2():
    for arguments in (["--data.rot", "x"], ["--config", "nowhere.yaml"], ["--check", "loud"]):
        with pytest.raises(UserError) as raised:
            verbs.check([*CONFIG, *arguments])
        assert raised.value.exit_code == 2


@pytest.mark.parametrize("path", [".", "photos", "tiny.yaml/report"])
@pytest.mark.parametrize("option", ["--html", "--json"])
def test_unwritable_report_is_refused_before_the_check(option, path, monkeypatch):
    monkeypatch.setattr("kit.checks.survey.full_survey", None)
    with pytest.raises(UserError, match=rf"^{path} cannot be written: [^\n]*$"):
        check(option, path)


def test_fit_warns_about_faults_and_trains(fit, capsys):
    copied("train/cat/1.jpg", "val/cat/x.jpg")
    assert (fit(*CONFIG) / "results.json").is_file()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error    leak") and "val/cat/x.jpg" in lines[0]
    assert lines[1].startswith("1 error and 0 warnings: ") and " -m tiny_app.check --config " in lines[1]
    assert lines[2] == ""


def test_command_printed_by_a_resumed_run_checks_its_data(fit, capsys):
    copied("train/cat/1.jpg", "val/cat/x.jpg")
    run = fit(*CONFIG)
    capsys.readouterr()
    verbs.fit(["--resume", str(run), "--trust", "photos", "--trainer.max_epochs", "2"])
    command = capsys.readouterr().out.splitlines()[1].partition(" -m tiny_app.check ")[2]
    assert "--resume" not in command
    with pytest.raises(SystemExit) as ended:
        verbs.check(shlex.split(command))
    assert ended.value.code == 1 and "val/cat/x.jpg" in capsys.readouterr().out


def test_fit_prints_nothing_for_clean_data_or_without_checks(fit, capsys):
    fit(*CONFIG)
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("data: ") and second.startswith("epoch")
    copied("train/cat/1.jpg", "val/cat/x.jpg")
    fit(*CONFIG, "--check", "off")
    assert capsys.readouterr().out.startswith("data: ")


def test_strict_stops_at_errors_but_not_at_warnings(fit):
    copied("train/cat/1.jpg", "train/cat/x.jpg")
    fit(*CONFIG, "--check", "strict")
    copied("train/cat/1.jpg", "val/cat/x.jpg")
    with pytest.raises(BrokenFiles, match="strict"):
        fit(*CONFIG, "--check", "strict")


def test_exit_code_of_the_process(command):
    copied("train/cat/1.jpg", "val/cat/x.jpg")
    ended = command("check", *CONFIG)
    assert (ended.returncode, ended.stderr) == (1, "")
    first, second = ended.stdout.splitlines()[:2]
    assert first.startswith("data: ") and "24 / 7 images (train / val)" in first
    assert second.startswith("31 images of photos checked in")


def survey(faults: list[Fault]) -> Survey:
    return Survey(worst_first(faults), {"train": 5}, "data", 0.1, [])


def test_order_of_faults_and_brief_text():
    faults = [Fault("a", "warning", f"data/{n}.jpg", None, "dim; lighten it") for n in range(9)]
    faults += [Fault(kind, "error", "data/t.csv", 7, f"bad {kind}") for kind in "bcdefg"] + [faults[0]]
    faults += [Fault("c", "error", "data/t.csv", 3, "bad c")]
    assert [fault.kind for fault in worst_first(faults)] == [*"cc", *"bdefg", *"a" * 9]
    lines = brief_text(survey(faults), "COMMAND").splitlines()
    assert lines[0] == "error    c                      2  t.csv:3: bad c"
    assert lines[-1] == "7 errors and 9 warnings: COMMAND" and len(lines) == 6
    listed = full_text(survey(faults)).splitlines()
    at = listed.index("warning  a                      9  0.jpg: dim; lighten it")
    assert [line.strip() for line in listed[at + 1 : at + 4]] == [
        "1.jpg: dim; lighten it",
        "2.jpg: dim; lighten it",
        "and 6 more",
    ]


def test_only_paths_in_the_root_are_shortened():
    assert shorten("data/a/1.png: the same as 'data/a/2.png'", "data/a/") == "1.png: the same as '2.png'"
    for text in ("nothing is at /home/data/a/1.png", "see ../data/a/1.png", "mydata/a/1.png"):
        assert shorten(text, "data/a") == text
    assert shorten("/mnt/data/1.png and /data/2.png", "/data") == "/mnt/data/1.png and 2.png"
    assert shorten("./1.png", ".") == "./1.png"


def test_all_kinds_in_the_code_are_listed():
    used = {kind for kind, *_ in HEADER_CHECKS}
    for file in Path(checks.__file__).parent.glob("*.py"):
        used |= set(re.findall(r'\bfault\(\s*"([\w-]+)"', file.read_text()))
    assert used <= set(KINDS)


def test_very_long_jpeg_is_readable(capsys):
    Image.new("RGB", (2000, 15), "red").save("photos/train/cat/long.jpg")
    check()
    assert "unreadable" not in capsys.readouterr().out
