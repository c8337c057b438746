"""A run writes and deletes files only in its own folder, whatever logs, and whoever made the run."""

import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import lightning as L
import pytest
import torch
import yaml
from PIL import Image
from tiny_run import made_once
from tiny_task import Judge

from kit.checkpoints import trust
from kit.checkpoints.run_folder import is_inside, make_next_version, next_version, refuse_foreign_paths, refuse_links
from kit.cli import command_line as cli
from kit.cli import process, verbs
from kit.config.parser import Parser
from kit.exporting import export
from kit.ground.errors import UserError
from kit.prediction import predict
from kit.safeguards.resume import restarting

CONFIG = """
name: tiny
trainer: {max_epochs: 1, accelerator: cpu, log_every_n_steps: 2}
model: {class_path: tiny_task.Used}
data: {class_path: tiny_task.Shades, init_args: {batch_size: 16, val: 12}}
check: "off"
"""
MORE = ["--trainer.max_epochs", "2"]


@pytest.fixture(autouse=True)
def config() -> None:
    process.quiet()
    Path("tiny.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def trained(once) -> Path:
    return made_once(once, "tiny_run_folder", CONFIG)


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of a finished run, which a test may go on with."""
    return shutil.copytree(trained, tmp_path / "run", symlinks=True)


def fit(*args: str) -> Path:
    verbs.fit(["--config", "tiny.yaml", *args])
    return max(Path("runs/tiny").glob("version_*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def edit_config(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    file = run / "config.yaml"
    content = yaml.safe_load(file.read_text())
    edit(content)
    file.write_text(yaml.safe_dump(content))


def edit_checkpoint(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    file = run / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    edit(content)
    torch.save(content, file)


# A --resume that fails


FAILS = {
    "the checkpoint does not fit": [],
    "no loader can be made": ["--data.num_workers", "-1"],
    "the first step fails": ["--data.batch_size", "7", "--force", "true"],
}


@pytest.mark.parametrize("how", FAILS)
def test_failed_resume_leaves_the_run_unchanged(how, run, monkeypatch):
    if how == "the first step fails":
        monkeypatch.setattr(Judge, "training_step", lambda *_: 1 / 0)
    if how == "the checkpoint does not fit":
        edit_checkpoint(run, lambda content: content["state_dict"].popitem())
    before = contents(run)
    with pytest.raises((UserError, RuntimeError, ZeroDivisionError)):
        verbs.fit(["--resume", str(run), *MORE, *FAILS[how]])
    assert contents(run) == before


def test_averaged_weights_can_be_resumed(monkeypatch, capfd):
    average = ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.01"]
    run = fit(*average, "--trainer.max_epochs", "3")
    saved = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"][0]["init_args"]
    assert saved["device"] == "cpu"
    assert "serialize" not in capfd.readouterr().err

    class Killed(BaseException):
        pass

    def killed(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise Killed
        return step(self, batch, batch_idx)

    step = Judge.training_step
    with monkeypatch.context() as patch:
        patch.setattr(Judge, "training_step", killed)
        with pytest.raises(Killed):
            fit(*average, "--trainer.max_epochs", "3")
    verbs.fit(["--resume", "runs/tiny/version_1"])
    weights = [torch.load(f"runs/tiny/version_{n}/checkpoints/best.ckpt", weights_only=True) for n in (0, 1)]
    for name, value in weights[0]["state_dict"].items():
        assert torch.equal(value, weights[1]["state_dict"][name])


class Odd(L.Callback):
    """A callback with a default that YAML cannot express."""

    def __init__(self, size: Callable[[int], int] = lambda n: n, name: str = "odd") -> None:
        self.name = name


def test_default_without_yaml_is_left_out(monkeypatch):
    monkeypatch.setattr(trust, "PACKAGES", (*trust.PACKAGES, __name__.split(".")[0]))
    run = fit(f"--trainer.callbacks+={__name__}.Odd")
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"][0]["init_args"] == {"name": "odd"}
    again = cli.CLI(["--config", str(run / "config.yaml")])
    assert any(isinstance(callback, Odd) for callback in again.trainer.callbacks)


# A stranger's run


@pytest.fixture
def victim(tmp_path) -> Iterator[Path]:
    """Return a folder outside of the run that must not change."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious.ckpt").write_text("precious")
    yield folder
    assert {file.name: file.read_text() for file in folder.rglob("*")} == {"precious.ckpt": "precious"}


def callbacks(class_path: str, **init_args: Any) -> Callable[[dict[str, Any]], Any]:
    spec = {"class_path": class_path, "init_args": init_args}
    return lambda config: config["trainer"].update(callbacks=[spec])


KEPT = "lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.mark.parametrize("where", ["{inside}/../../../victim", "memory://precious"])
def test_callback_state_removes_no_foreign_files(where, run, victim, capsys):
    fsspec.filesystem("memory").pipe("/precious", b"precious")
    inside = run / "checkpoints" / "ModelCheckpoint"
    inside.mkdir()
    name = where.format(inside=inside)
    edit_config(run, callbacks(KEPT, save_top_k=1))
    state = {"dirpath": str(inside), "best_model_path": name, "kth_best_model_path": name, "best_model_score": None}
    state |= {"best_k_models": {}, "current_score": None, "last_model_path": name, "kth_value": torch.tensor(0.0)}
    key = "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
    key += "'train_time_interval': None}"
    edit_checkpoint(run, lambda content: content["callbacks"].update({key: state}))
    verbs.fit(["--resume", str(run), *MORE])
    assert f"{name} is not removed" in capsys.readouterr().err
    assert fsspec.filesystem("memory").cat("/precious") == b"precious"


FOREIGN = {
    "dirpath": callbacks(KEPT, dirpath="VICTIM"),
    "up": callbacks(KEPT, filename="../../../victim/precious"),
    "relative": callbacks("lightning.pytorch.callbacks.OnExceptionCheckpoint", dirpath="victim"),
    "home": callbacks(KEPT, dirpath="~/x"),
    "variable": callbacks(KEPT, dirpath="$HOME/x"),
    "url": callbacks(KEPT, dirpath="file://VICTIM"),
    "save_dir": lambda config: config["trainer"].update(
        logger={"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "VICTIM"}}
    ),
    "version": lambda config: config["trainer"].update(
        logger={"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"version": "../../../victim"}}
    ),
    "profiler": lambda config: config["trainer"].update(
        profiler={
            "class_path": "lightning.pytorch.profilers.SimpleProfiler",
            "init_args": {"dirpath": "VICTIM", "filename": "precious"},
        }
    ),
    "cache_dir": lambda config: config["data"]["init_args"].update(cache_dir="VICTIM"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_path_in_a_config_is_refused(what, run, victim):
    edit_config(run, FOREIGN[what])
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("VICTIM", str(victim)))
    before = contents(run)
    with pytest.raises(UserError, match=rf"^(trainer|data)\.\S+ is '.*', which is not in the run's folder {run}; "):
        verbs.fit(["--resume", str(run), *MORE])
    assert contents(run) == before


def test_path_on_the_command_line_is_allowed(run, tmp_path):
    edit_config(run, callbacks(KEPT, dirpath=str(tmp_path / "mine")))
    words = ["--trainer.callbacks.dirpath", str(tmp_path / "mine")]
    verbs.fit(["--resume", str(run), *MORE, *words])
    assert list((tmp_path / "mine").glob("*.ckpt"))
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert not list(run.glob("config.yaml.*"))


TYPED = [
    (["--trainer.callbacks.dirpath", "mine"], True),
    (["--trainer.callbacks.init_args.dirpath=mine"], True),
    (["--trainer.callbacks.dirpath", "./mine/"], True),
    (["--trainer.callbacks.dirpath", "mine/../mine"], False),
    (["--config", "mine.yaml"], False),
    (["--trainer.callbacks.filename", "min"], False),
    (["--data.root", "mine"], False),
    ([], False),
]


@pytest.mark.parametrize(("args", "allowed"), TYPED)
def test_paths_that_the_user_gives_are_allowed(args, allowed):
    Path("run").mkdir()
    for file in ("mine.yaml", "run/config.yaml"):
        Path(file).write_text(f"trainer: {{callbacks: [{{class_path: {KEPT}, init_args: {{dirpath: mine}}}}]}}")
    config = yaml.safe_load(Path("mine.yaml").read_text())
    if allowed:
        refuse_foreign_paths(config, args, Path("run"))
    else:
        with pytest.raises(UserError, match=r"trainer.callbacks\[0\].dirpath is 'mine'.*--trainer.callbacks.dirpath"):
            refuse_foreign_paths(config, args, Path("run"))


class Notes(L.Callback):
    """A callback with files. The names of the arguments say so, or only their annotations do."""

    def __init__(
        self,
        target: Path,
        other: str | Path | None = None,
        others: list[str | Path] | None = None,
        log_file: str = "",
        filename: str = "",
        title: str = "",
        titles: Sequence[str] = (),
    ) -> None:
        pass


@pytest.mark.parametrize("argument", ["target", "other", "others", "log_file", "filename"])
def test_path_that_its_annotation_or_its_name_reveals_is_refused(argument, run, monkeypatch):
    monkeypatch.setattr(trust, "PACKAGES", (*trust.PACKAGES, __name__.split(".")[0]))
    value, index = (["Makefile"], r"\[0\]") if argument == "others" else ("Makefile", "")
    changed = {"target": str(run / "notes"), "title": "Makefile", "titles": ["Makefile"], argument: value}
    edit_config(run, callbacks(f"{__name__}.Notes", **changed))
    message = rf"callbacks\[0\].{argument}{index} is 'Makefile', which is not in the run's folder"
    with pytest.raises(UserError, match=message):
        verbs.fit(["--resume", str(run), *MORE, "--force", "true"])


def test_usual_config_is_allowed():
    arguments = {"filename": "{epoch}-{val/loss:.2f}", "monitor": "val/loss", "dirpath": None}
    harmless = {"trainer": {"default_root_dir": "/scratch", "max_time": "00:01:00:00", "precision": "16-mixed"}}
    harmless["trainer"]["callbacks"] = [{"class_path": KEPT, "init_args": arguments}]
    profiler = {"dirpath": "run", "filename": "profile"}
    harmless["trainer"]["profiler"] = {
        "class_path": "lightning.pytorch.profilers.SimpleProfiler",
        "init_args": profiler,
    }
    harmless["trainer"]["logger"] = {"class_path": "kit.dashboard.TensorBoard", "init_args": {"save_dir": "run"}}
    harmless["data"] = {"class_path": "tiny_task.Shades", "init_args": {"root": "/data/photos", "cache_dir": ".cache"}}
    refuse_foreign_paths(harmless, [], Path("run"))


# Links


LINKS = ["checkpoints", "events", "checkpoints/best.ckpt.part", "config.yaml.part", "lightning_logs", "fit-x.txt"]


@pytest.mark.parametrize("name", LINKS)
def test_links_out_of_the_run_are_refused(name, run, victim):
    place = next(run.glob("*tfevents*")) if name == "events" else run / name
    if name == "checkpoints":
        shutil.move(place, run.parent / "moved")
        target = run.parent / "moved"
    else:
        place.unlink(missing_ok=True)
        target = victim / "precious.ckpt"
    place.symlink_to(target)
    before = contents(target) if target.is_dir() else {}
    with pytest.raises(UserError, match=f"{place.name} leads to .*{target.name}, which is not in the run's folder"):
        verbs.fit(["--resume", str(run), *MORE])
    assert place.is_symlink()
    assert not target.is_dir() or contents(target) == before


def test_checkpoint_and_run_folder_may_be_links(run, tmp_path):
    """A link to a checkpoint is replaced, and its target is kept."""
    last, elsewhere = run / "checkpoints" / "last.ckpt", tmp_path / "elsewhere.ckpt"
    shutil.move(last, elsewhere)
    before = elsewhere.read_bytes()
    last.symlink_to(elsewhere)
    (run / "newest").symlink_to("checkpoints")
    (tmp_path / "link").symlink_to(run)
    verbs.fit(["--resume", "link", *MORE])
    assert elsewhere.read_bytes() == before and not last.is_symlink()
    assert torch.load(last, weights_only=True)["epoch"] == 1


def test_links_that_lead_out_of_a_folder(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    (run / "a").mkdir(parents=True)
    out.mkdir()
    (tmp_path / "link").symlink_to(run)
    assert (
        is_inside(run / "a" / "new", run)
        and is_inside(tmp_path / "link" / "a", run)
        and is_inside(run, tmp_path / "link")
    )
    assert not is_inside(run / ".." / "out", run) and not is_inside(f"file://{run}/a", run) and not is_inside(out, run)
    for target in ("../../out", "missing", "b"):
        link = run / "a" / "b"
        link.symlink_to(target)
        if target == "missing":
            refuse_links(run, run)
        else:
            for place in (run, run / "a", run / "a" / "b"):
                with pytest.raises(UserError, match="b leads to"):
                    refuse_links(place, run)
        link.unlink()
    assert next_version(run) == run / "version_0"


def test_next_version_follows_the_highest(tmp_path):
    for name in ("version_0", "version_10", "version_2", "version_x"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path).name == "version_11"
    (tmp_path / "version_11").touch()
    assert make_next_version(tmp_path).name == "version_12"


def test_simultaneous_runs_get_different_folders(tmp_path):
    with ThreadPoolExecutor(8) as starts:
        made = list(starts.map(make_next_version, [tmp_path / "runs"] * 40))
    assert {folder.name for folder in made} == {f"version_{number}" for number in range(40)}


def test_failed_start_leaves_no_folder():
    with pytest.raises(UserError, match="gpuu"):
        verbs.fit(["--config", "tiny.yaml", "--trainer.accelerator", "gpuu"])
    assert not [*Path("runs").glob("*/*")]


def test_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match="runs/version_0 cannot be made: "):
        make_next_version(tmp_path / "runs")


VERBS = {"predictions": predict, "exports": export}


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("below", ["", "masks"])
def test_predict_and_export_refuse_links_out_of_the_run(name, below, run, victim, capsys):
    image = run.parent / "0.png"
    Image.new("RGB", (8, 6)).save(image)
    place = run / name / below
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(victim)
    with pytest.raises(UserError, match=f"{place.name} leads to .*victim"):
        VERBS[name]([str(run), *([str(image)] if name == "predictions" else [])])


# Other loggers and other checkpoints


class Silent(L.pytorch.loggers.logger.Logger):
    """A logger like that of wandb: its folder has a default, and it has no `log_dir`."""

    made: list["Silent"] = []  # noqa: RUF012

    def __init__(self, save_dir: str = "./silent") -> None:
        super().__init__()
        self._save_dir = save_dir
        self.metrics: dict[str, float] = {}
        Silent.made.append(self)

    name, version = "silent", "1"
    save_dir = property(lambda self: self._save_dir)

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics

    def log_hyperparams(self, params, *args, **kwargs):
        pass


LOGGERS = {
    "+=": [f"--trainer.logger+={__name__}.Silent"],
    "alone": ["--trainer.logger", f"{__name__}.Silent"],
    "csv": ["--trainer.logger", "CSVLogger"],
    "none": ["--trainer.logger", "false"],
    "default": [],
}


@pytest.mark.parametrize("how", LOGGERS)
def test_run_folder_does_not_depend_on_the_logger(how, capsys):
    Silent.made.clear()
    runs = [fit("--name", "tiny", *LOGGERS[how]) for _ in range(2 if how == "csv" else 1)]
    for run in runs:
        assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
        assert (run / "results.json").is_file() and (run / "config.yaml").is_file()
        assert f"run folder    {run}\n" in capsys.readouterr().out or len(runs) > 1
        assert bool(list(run.glob("*tfevents*"))) == (how in ("+=", "default"))
        assert bool(list(run.rglob("metrics.csv"))) == (how == "csv")
    assert len(set(runs)) == len(runs)
    assert [path.name for path in Path("runs").iterdir()] == ["tiny"]
    if how in ("+=", "alone"):
        assert Path(Silent.made[-1].save_dir) == run / "silent"
        assert {"val/accuracy", "train/loss"} <= set(Silent.made[-1].metrics)


def test_own_checkpoint_is_tested_beside_others(monkeypatch):
    others = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor", "train/loss"]
    others += ["--trainer.callbacks.filename", "best", "--trainer.callbacks.save_last", "true"]
    tested = []
    test = L.Trainer.test
    monkeypatch.setattr(L.Trainer, "test", lambda *a, **k: tested.append(k["ckpt_path"]) or test(*a, **k))
    run = fit(*others)
    assert tested == [run / "checkpoints" / "best.ckpt"]
    assert {file.name for file in (run / "checkpoints").glob("*/*")} == {"best.ckpt", "last.ckpt"}
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["exact_resume"]


WHERE = [
    (["--trainer.logger", "WandbLogger"], "run"),
    (["--trainer.logger", "MLFlowLogger"], "run/mlruns"),
    (["--trainer.logger", "TensorBoardLogger"], "run"),
    (["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "mine"], "mine"),
]


@pytest.mark.parametrize(("words", "folder"), WHERE)
def test_save_dir_of_loggers(words, folder):
    """The classes are not called, so wandb and mlflow need not be installed."""
    parser = Parser()
    parser.add_lightning_class_args(L.Trainer, "trainer")
    config = cli.set_log_folder(Path("run"), parser.read(words))
    assert config.trainer.logger.init_args.save_dir == folder


def test_checkpoint_on_exception_is_refused():
    with pytest.raises(UserError, match="leave out OnExceptionCheckpoint"):
        fit("--trainer.callbacks+=OnExceptionCheckpoint", "--trainer.callbacks.dirpath", "failed")


def test_weights_path_may_change_but_not_the_net():
    before = {"model.init_args.net.init_args.weights": "old.pth", "model.init_args.net.class_path": "One"}
    moved, other = ({**before, key: "another"} for key in before)
    assert restarting.config_differences(Namespace(**before), Namespace(**moved)) == []
    differences = restarting.config_differences(Namespace(**before), Namespace(**other))
    assert differences == ["model.net.class_path was 'One' and is now 'another'"]
    with pytest.raises(UserError, match=r"net\.class_path was 'One'"):
        restarting.refuse("config", differences, force=False)


def test_net_may_not_lose_its_weights():
    """It would no longer fix layers of its backbone."""
    before, after = (Namespace(**{f"{restarting.NET}.weights": file}) for file in ("old.pth", None))
    assert restarting.config_differences(before, after) == ["model.net.weights was 'old.pth' and is now None"]


def test_broken_link_in_place_of_the_folder_is_named(tmp_path):
    """`mkdir` says that it exists, and another run may have made it at the same time."""
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="cannot be made"):
        make_next_version(tmp_path / "runs")
