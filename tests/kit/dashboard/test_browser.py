"""Runs in TensorBoard, in a real browser. The tests are skipped without one, unless BROWSER_TESTS=required."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.cli import process, verbs
from kit.cli.reporting import report

pytestmark = pytest.mark.slow
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--window-size=1400,5000"]
PATIENCE = 120  # seconds
TINY = {
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1},
    "model": {"class_path": "tiny_task.Drawn"},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8, "train": 40, "val": 21}},
    "check": "off",
}
# TensorBoard consists of web components, each with its own document.
WORDS = """
const words = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return [node.textContent];
  if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.nodeName)) return [];
  const inner = node.shadowRoot ? [...node.shadowRoot.childNodes] : [];
  return [...inner, ...node.childNodes].flatMap(words);
};
return words(document.body).join(" ");
"""
PICTURES = """
const pictures = (node) => {
  const inner = [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes];
  const own = node.nodeName === "IMG" && node.naturalWidth > 20 ? [node.naturalWidth] : [];
  return [...own, ...inner.flatMap(pictures)];
};
return pictures(document.body);
"""
# Choose the column and the order of the table in the menus.
SORT = """
const items = (node) => {
  const inner = [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes];
  const own = node.nodeName === "PAPER-ITEM" && node.closest(".sorting") ? [node] : [];
  return [...own, ...inner.flatMap(items)];
};
const found = items(document.body).filter((item) => item.textContent.trim() === arguments[0]);
found.forEach((item) => item.click());
return found.length;
"""
# The runs in the table from top to bottom.
ROWS = """
const rows = (node) => {
  const inner = [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes];
  const text = node.nodeType === Node.TEXT_NODE ? node.textContent.trim() : "";
  const own = text.endsWith("/version_0/best") ? [[node.parentElement.getBoundingClientRect().top, text]] : [];
  return [...own, ...inner.flatMap(rows)];
};
return rows(document.body).filter(([top]) => top > 0).sort((a, b) => a[0] - b[0]).map(([, text]) => text);
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two runs that differ in their learning rate."""
    folder = tmp_path_factory.mktemp("board")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        process.quiet()
        for name, rate in (("slow", "0.001"), ("fast", "0.05")):
            verbs.fit(["--config", str(config), "--name", name, "--model.lr", rate])
    return folder / "runs"


@pytest.fixture(scope="module")
def board(runs: Path) -> Iterator[str]:
    """Return the address of a TensorBoard server, which ends after the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--host", "127.0.0.1", "--port", str(port)]
    line += ["--samples_per_plugin", "images=100,text=100"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    if BROWSER is None or DRIVER is None or find_spec("selenium") is None:
        if os.environ.get("BROWSER_TESTS") == "required":
            pytest.fail("wanted here: pip install selenium, and apt-get install chromium chromium-driver")
        pytest.skip("there is no chromium with its chromedriver, or no selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def words(board: str, browser) -> Callable[..., str]:
    """Return a function that returns the text of a tab, as soon as it contains given words or after `PATIENCE`."""
    from selenium.common.exceptions import WebDriverException

    def read(tab: str, *wanted: str) -> str:
        until, seen = time.monotonic() + PATIENCE, ""
        while time.monotonic() < until:
            try:
                if not seen:
                    browser.get(f"{board}/?for={tab}#{tab}")
                seen = browser.execute_script(WORDS)
                if all(word in seen for word in wanted):
                    return seen
            except WebDriverException:  # the server is not there yet
                seen = ""
            if "No dashboards are active" in seen or "No scalar data" in seen:  # it has not read the log yet
                seen = ""
            time.sleep(0.3)
        return seen

    return read


TABS = [
    ("scalars", ["gradient_norm", "learning_rate", "speed", "test", "train", "val"]),  # groups, folded
    ("images", ["curves/loss", "data", "samples", "validation"]),  # groups, folded
    ("text", ["report/text_summary", "verdict: ", "test/accuracy"]),
    ("hparams", ["val/accuracy", "test/accuracy", "model.lr", "fast/version_0/best", "slow/version_0/best"]),
]


@pytest.mark.parametrize(("tab", "wanted"), TABS, ids=[tab for tab, _ in TABS])
def test_tab_has_its_contents(tab, wanted, words):
    seen = words(tab, *wanted)
    assert [word for word in wanted if word not in seen] == []


def test_pictures_are_loaded(words, browser):
    words("images", "samples/first_batch")
    until = time.monotonic() + PATIENCE
    while len(widths := browser.execute_script(PICTURES)) < 4 and time.monotonic() < until:
        time.sleep(0.3)
    assert len(widths) >= 4


def test_runs_can_be_sorted_by_metric(words, browser, runs):
    words("hparams", "val/accuracy", "fast/version_0/best", "slow/version_0/best")
    scores = {f"{name}/version_0/best": best(runs / name / "version_0") for name in ("fast", "slow")}
    ranked = sorted(scores, key=lambda name: scores[name])
    assert scores[ranked[0]] < scores[ranked[1]]
    assert browser.execute_script(SORT, "val/accuracy") == 1
    for way, wanted in (("Ascending", ranked), ("Descending", ranked[::-1])):
        assert browser.execute_script(SORT, way) == 1
        until = time.monotonic() + PATIENCE
        while (order := browser.execute_script(ROWS)) != wanted and time.monotonic() < until:
            time.sleep(0.3)
        assert order == wanted


def test_pages_of_runs_show_all_pictures_and_are_not_wider_than_the_window(browser, runs):
    folders = sorted(runs.glob("*/version_0"))
    report([*map(str, folders), "--html", "comparison.html"])
    for page in (folders[0] / "report.html", Path("comparison.html")):
        browser.get(page.absolute().as_uri())
        widths = browser.execute_script("return [...document.images].map((image) => image.naturalWidth)")
        assert len(widths) >= 2 and all(widths)
        for width in (1400, 500, 390):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def best(run: Path) -> float:
    return EventAccumulator(str(run / "best")).Reload().Scalars("val/accuracy")[-1].value


def test_make_dashboard_prints_its_address_without_runs_and_with_the_default_port_in_use(repository):
    lines = (repository / "Makefile").read_text().split("\ndashboard:")[1].splitlines()[1:3]
    assert lines[0] == "\tmkdir -p runs"
    words = lines[1].split()[1:-1]  # without the program and the user's arguments
    Path("runs").mkdir()
    line = [sys.executable, "-m", "tensorboard.main", *words]
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # if the port is in use already
            taken.bind(("localhost", 6006))
            taken.listen()
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
            watchdog = threading.Timer(PATIENCE, server.kill)
            watchdog.start()
            try:
                said = next((text for text in server.stderr if "http://" in text), "")
            finally:
                watchdog.cancel()
                server.kill()
    assert re.search(r"at http://localhost:\d+/", said) and ":6006/" not in said
