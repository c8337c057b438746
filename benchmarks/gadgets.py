"""Put every function and class of the libraries where a stranger's file could name it, and watch what it does there.

For `hostile.py`. First, each name is checked in each place, as `test` and `fit --resume` check it. Then these verbs
make and use each class that a place accepts, with arguments that would do harm: paths outside of the run's folder,
commands, addresses. `watched.py` shows what they do.
"""

import contextlib
import copy
import functools
import importlib
import inspect
import io
import os
import pickle
import pkgutil
import shutil
import sys
import time
import traceback
import warnings
from collections import abc
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from watched import apart

import project  # noqa: F401  # it tells kit its name
from kit.checkpoints import listed_classes, trust
from kit.checkpoints.checkpoint import FROM_DATA
from kit.cli import process, verbs
from kit.cli.command_line import CLI
from kit.config.annotations import Annotations, Expected, import_path, parameter_annotations, parser_annotations
from kit.ground.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PACKAGES = ("project", "kit", "torch", "torchvision", "lightning", "timm", "segmentation_models_pytorch")
SMALL = {"classification": [4], "detection": [4, 4, 4], "generation": [8, 8], "segmentation": [4, 6]}  # widths of nets
SMALL |= {"classification_folder": [4], "style": [4, 4, 4]}
SPLITS = ("train", "val", "test")
SHORT = ["--trainer.accelerator", "cpu", "--trainer.limit_test_batches", "1", "--data.num_workers", "0"]
# For the classes that a class needs.
STAND_INS = {nn.Module: {"class_path": "torch.nn.Identity"}, torch.dtype: "torch.float32"}
STAND_INS |= {v2.Transform: {"class_path": "torchvision.transforms.v2.Identity"}}
NUMBERS = {bool: True, int: 3, float: 0.5, complex: 0.5}
# What the names of arguments contain.
ADDRESSES = ("url", "uri", "host", "address", "repo", "hub")
COMMANDS = ("command", "cmd", "program", "script", "source", "code")
WEIGHTS = ("weights", "checkpoint", "ckpt")
FOLDERS = ("path", "dir", "file", "root", "folder", "run", "cache", "judge", "style", "log", "out", "name", "version")
FLAGS = ("download", "pretrained", "force", "overwrite", "delete", "save")
MADE_ONCE = ("torch.", "torchvision.transforms.")
# docs/predict.md names these exceptions: a painter's features are no part of its checkpoint.
SERVERS = {"kit.samples.TimmFeatures": "huggingface.co"}

Config = dict[str, Any]


class Place(NamedTuple):
    """A place in a run's config.yaml.

    Args:
        key: of the config.
        wrap: makes what stands there of a value that is put in the place.
        task: the config with which a class in this place is used.
        given: how many of the arguments that a class needs come from who makes it.
    """

    key: str
    wrap: Callable[[Any], Any]
    task: str
    given: int = 0


class Gadget(NamedTuple):
    """A class that a place accepts.

    Args:
        aim: where the paths among its arguments lead: to a folder that is there, to one that could be made ("new"), or
            to none ("").
    """

    place: Place
    path: str
    thing: Any
    aim: str = ""


class Use(NamedTuple):
    """What became of a class.

    Args:
        made: whether its constructor was called.
        endings: how the verbs ended.
    """

    path: str
    made: bool
    endings: list[str]


def spec(path: str, **arguments: Any) -> Config:
    return {"class_path": path, "init_args": arguments}


def itself(value: Any) -> Any:
    return value


def listed(value: Any) -> list[Any]:
    return [value]


def places() -> list[Place]:
    """Return where a class may stand: in the classes of the shipped configs, in other classes, and in the trainer."""
    found: dict[tuple[str, str], Place] = {}
    for task in tasks():
        for part in ("model", "data"):
            found.setdefault((part, ""), Place(part, itself, task))
            for name, kind in parameter_annotations(import_path(base(task)[part]["class_path"])).items():
                expected = Expected.any_of([kind])
                wrap = itself if expected.classes else listed if Expected.any_of(expected.items).classes else None
                if wrap:
                    place = Place(f"{part}.init_args.{name}", wrap, task, given_by_maker(kind))
                    found.setdefault((place.key, str(kind)), place)
    first, transforms, rate = tasks()[0], "torchvision.transforms.v2", "torch.optim.lr_scheduler.LambdaLR"
    return [
        *found.values(),
        Place("model.init_args.schedule", lambda value: spec(rate, lr_lambda=value), first),
        Place("data.init_args.augment", lambda value: [spec(f"{transforms}.RandomApply", transforms=[value])], first),
        Place("data.init_args.augment", lambda value: [spec(f"{transforms}.Lambda", lambd=value)], first),
        *(Place(f"trainer.{key}", itself, first) for key in ("accelerator", "strategy", "logger", "profiler")),
        *(Place(f"trainer.{key}", listed, first) for key in ("callbacks", "plugins")),
    ]


def given_by_maker(kind: Any) -> int:
    """Return how many arguments an annotation such as `Callable[[Optimizer], LRScheduler]` names, else 0."""
    arguments = [get_args(one)[0] for one in alternatives(kind) if get_origin(one) is abc.Callable]
    return max((100 if one is ... else len(one) for one in arguments), default=0)


def tasks() -> list[str]:
    """Return the names of the shipped configs, those of a task in a row."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def modules() -> list[str]:
    """Import the public modules of the packages. Return the names of those that can be imported."""
    found: list[str] = []

    def look(name: str) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                module = importlib.import_module(name)
        except (Exception, SystemExit):  # it needs what is not installed, or another system
            return
        found.append(name)
        for inside in pkgutil.iter_modules(getattr(module, "__path__", []), f"{name}."):
            if "._" not in inside.name:
                look(inside.name)

    for package in PACKAGES:
        look(package)
    return found


def names() -> dict[str, Any]:
    """Return each function and class in the modules, by its path in every module that has it."""
    return {
        f"{module}.{name}": value
        for module in modules()
        for name, value in sorted(vars(sys.modules[module]).items())
        if callable(value) and name.isidentifier()
    }


def shortest(every: dict[str, Any]) -> dict[str, Any]:
    """Return each thing by its shortest path, and also by its shortest path in each module that is listed."""
    found: dict[Any, str] = {}
    for path in sorted(every, key=len, reverse=True):
        module = path.rpartition(".")[0]
        found[id(every[path]), module if module in listed_classes.LISTED else None] = path
    return {path: every[path] for path in found.values()}


def accepted(every: dict[str, Any], place: Place, kind: Any) -> tuple[int, list[str]]:
    """Return how many combinations were checked in a place, and the paths that it accepts, one for each thing.

    The place of the net is given each path of a thing, also as a bare name; the others its shortest path.

    Args:
        kind: the annotation of the place.
    """
    thorough = place.key == "model.init_args.net"
    checked, found = 0, dict[int, str]()
    for path, thing in (every if thorough else shortest(every)).items():
        for value in ({"class_path": path}, path)[: 1 + thorough]:
            checked += 1
            with contextlib.suppress(UserError):
                trust.check_config({place.key: place.wrap(value)}, {place.key: kind}, Path("config.yaml"))
                found.setdefault(id(thing), path)
    return checked, list(found.values())


def annotation(place: Place, of_fit: Annotations) -> Any:
    """Return what the parser goes by in a place."""
    part, *inside = place.key.split(".")
    if part == "trainer":
        return of_fit[part][inside[0]]
    return (
        parameter_annotations(import_path(base(place.task)[part]["class_path"]))[inside[-1]] if inside else of_fit[part]
    )


def kinds_of_fit() -> Annotations:
    """Return the annotations of the keys of `python -m project.fit`."""
    found: list[Annotations] = []

    class Peek(CLI):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            found.append(parser_annotations(parser))
            raise StopIteration

    with contextlib.suppress(StopIteration):
        Peek([])
    return found[0]


def to_be_made(gadgets: Sequence[Gadget]) -> list[Gadget]:
    """Return each class in one place that makes it, or in the first that hands it on.

    Optimizers, schedules and what the trainer has are used in each place that accepts them; the project's models also
    as models, and its nets as nets.
    """
    everywhere = ("model.init_args.optimizer", "model.init_args.schedule", "trainer.")
    handed_on_last = sorted(gadgets, key=lambda gadget: gadget.place.wrap is itself)
    one = {id(gadget.thing): gadget for gadget in reversed(handed_on_last)}
    return [
        gadget
        for gadget in gadgets
        if (gadget.place.key.startswith(everywhere) and gadget.place.wrap in (itself, listed))
        or one[id(gadget.thing)] is gadget
        or (gadget.place.key in ("model", "model.init_args.net") and gadget.path.startswith(("project.", "kit.")))
    ]


def aimed(gadget: Gadget) -> list[Gadget]:
    """Return a class once for each aim that changes its arguments."""
    arguments = {aim: harmful(gadget, Path("outside"), aim) for aim in ("", "new", "folder")}
    return [gadget._replace(aim=aim) for aim in {repr(value): aim for aim, value in arguments.items()}.values()]


def harmful(gadget: Gadget, outside: Path, aim: str) -> Config:
    """Return arguments of a class that would do harm if they were obeyed, and those that it needs.

    Args:
        outside: the folder to which paths lead.
        aim: the name there; if it is empty, no path is given.
    """
    try:
        kinds = parameter_annotations(gadget.thing)
        parameters = inspect.signature(gadget.thing).parameters.values()
    except Exception:  # a signature that cannot be read: the class is made without arguments
        return {}
    needed = [one.name for one in parameters if one.default is one.empty]
    given, found = needed[: gadget.place.given], Config()
    for name, kind in kinds.items():
        if name not in given:
            found[name] = _harm(name.lower(), kind, outside, aim)
            if found[name] is None and name in needed:
                found[name] = _plausible(kind, outside / aim if aim else Path("run/text"))
    return {name: value for name, value in found.items() if value is not None}


def _harm(name: str, kind: Any, outside: Path, aim: str) -> Any:
    def about(words: Sequence[str]) -> bool:
        return any(word in name for word in words)

    kinds = alternatives(kind)
    if bool in kinds:
        return True if about(FLAGS) else None
    if any(get_origin(one) is Literal for one in kinds):
        return None
    if not any(map(_is_text, kinds)):
        inside = [one for kind in kinds for one in Expected.any_of([kind]).items if _is_text(one)]
        harm = _harm(name, str, outside, aim) if inside else None
        return harm and [harm]
    if about(ADDRESSES):
        return "http://127.0.0.1:9/harm"
    if about(COMMANDS):
        return f"touch {outside / 'touched'}"
    if aim and about(WEIGHTS):
        return str(outside / "evil.pt")
    return str(outside / aim) if aim and about(FOLDERS) else None


def _is_text(kind: Any) -> bool:
    return kind in (str, Any) or "Path" in str(kind)


def _plausible(kind: Any, path: Path) -> Any:
    """Return a value that an annotation allows, or None."""
    for one in alternatives(kind):
        if one in NUMBERS:
            return NUMBERS[one]
        if get_origin(one) is Literal:
            return get_args(one)[0]
        if isinstance(one, type) and issubclass(one, Enum):
            return next(iter(one)).name
        expected = Expected.any_of([one])
        if expected.anything:
            return 3
        if expected.items:
            inside = [_plausible(item, path) for item in expected.items]
            return None if None in inside else inside
        for kind, stand_in in STAND_INS.items():
            if any(issubclass(kind, wanted) for wanted in expected.classes):
                return stand_in
        if expected.values:
            return {"a": _plausible(expected.values[0], path)}
        if _is_text(one):
            return str(path)
    return None


def alternatives(kind: Any) -> list[Any]:
    """Return the annotations that a union consists of."""
    if get_origin(kind) in (Union, UnionType):
        return [inside for one in get_args(kind) for inside in alternatives(one)]
    return [] if isinstance(kind, dict) else [kind]


def use(gadget: Gadget) -> Use:
    """Make a class as `fit --resume` and `test` do, and train and test with it.

    A layer, transform or optimizer of a library that the first has made is not made again: `test` would do the same.
    """
    made = spy(gadget.thing)
    config = config_with(gadget)
    run, file, best = Path("run"), Path("some.ckpt"), Path("run/checkpoints/best.ckpt")
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    endings = [f"resume: {ending(lambda: verbs.fit(['--resume', str(run)]))}"]
    if not gadget.place.key.startswith("trainer.") and not (made and gadget.path.startswith(MADE_ONCE)):
        if not best.is_file():
            torch.save(checkpoint_of(config, task_of(gadget)), file)
        tested = str(best if best.is_file() else file)
        endings.append(f"test: {ending(lambda: verbs.test([tested, *SHORT]))}")
    return Use(gadget.path, bool(made), endings)


def spy(kind: type) -> list[bool]:
    """Return a list that has an item as soon as the constructor of a class is called."""
    made: list[bool] = []
    original = kind.__init__

    @functools.wraps(original)
    def constructor(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(True)
        original(self, *args, **kwargs)

    kind.__init__ = constructor
    return made


def ending(work: Callable[[], Any]) -> str:
    """Return how a verb ends: `works`, `refused: ` and the message, or another exception and where it was raised."""
    try:
        work()
    except UserError as error:
        return f"refused: {error}"
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} [{Path(place.filename).name}:{place.lineno}]"
    return "works"


def task_of(gadget: Gadget) -> str:
    """Return the shipped config that has a model or data module of this name, else the place's."""
    key, name = gadget.place.key, gadget.path.rpartition(".")[2]
    own = [task for task in tasks() if shipped(task).get(key, {}).get("class_path", "").rpartition(".")[2] == name]
    return [*own, gadget.place.task][0]


def config_with(gadget: Gadget) -> Config:
    """Return a run's config that names a class in its place."""
    arguments = harmful(gadget, Path("outside").absolute(), gadget.aim)
    inside = config = base(task_of(gadget))
    *groups, key = gadget.place.key.split(".")
    for group in groups:
        inside = inside[group]
    if not groups and inside[key]["class_path"].rpartition(".")[2] == gadget.path.rpartition(".")[2]:
        arguments = {**inside[key]["init_args"], **arguments}
    inside[key] = gadget.place.wrap({"class_path": gadget.path, "init_args": arguments})
    return config


def checkpoint_of(config: Config, task: str) -> dict[str, Any]:
    """Return a checkpoint that says the same as a run's config, with the weights of the task's sound run, if any."""
    file = Path(f"{task}.ckpt")
    found: dict[str, Any] = torch.load(file, weights_only=True) if file.is_file() else {"state_dict": {}}
    for part, key in {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}.items():
        learned = {name: value for name, value in found.get(key, {}).items() if name in FROM_DATA}
        found[key] = {**learned, "_class_path": config[part]["class_path"], **config[part].get("init_args", {})}
    return found


@functools.cache
def shipped(task: str) -> Config:
    return yaml.safe_load((CONFIGS / f"{task}.yaml").read_text())


def base(task: str) -> Config:
    """Return a shipped config, made small, on what `furnish` makes."""
    config = copy.deepcopy(shipped(task))
    config["trainer"] = {"max_epochs": 1, "accelerator": "cpu", **{f"limit_{split}_batches": 1 for split in SPLITS}}
    config["check"] = "off"
    model, data = (config[part].setdefault("init_args", {}) for part in ("model", "data"))
    net = model["net"].setdefault("init_args", {})
    net.pop("pretrained", None)
    if task in SMALL:
        net |= {"widths": SMALL[task]}
    data |= {"batch_size": 4, "num_workers": 0}
    data |= {"train": 20, "val": 8, "test": 8} if "train" in data else {}
    data |= {"scenes": 40} if "scenes" in data else {}
    if "style" in model:
        data |= {"image_size": [32, 32], "augment": []}
        model["features"]["init_args"] = {"run": "classification_folder.ckpt"}
    return config


def train(sound: Path, task: str) -> None:
    """Train a small run of a shipped config, and copy it to `sound/TASK`."""
    Path("run").mkdir()
    Path("run/config.yaml").write_text(yaml.safe_dump(base(task)))
    verbs.fit(["--resume", "run"])
    shutil.copytree("run", sound / task)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch outside/touched",)


def furnish(stage: Path, sound: Path) -> None:
    """Write what a stranger would like to be overwritten, deleted or run; and what the tasks need.

    Args:
        sound: a folder for a small run of each task; the stage gets their checkpoints.
    """
    outside = stage / "outside"
    (outside / "folder" / "version_0").mkdir(parents=True)
    (outside / "folder" / "precious.txt").write_text("precious")
    (outside / "folder" / "version_0" / "last.ckpt").write_text("precious")
    (outside / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    pixels = np.random.default_rng(0).integers(0, 255, (21, 32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(stage / "style.png")
    for number, image in enumerate(pixels[1:]):
        folder = stage / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    *most, style = SMALL
    for tasks_now in (most, [style]):  # the features of `style` are those of a classifier
        for done in apart(functools.partial(train, sound), tasks_now, stage):
            if done.result:
                raise RuntimeError(f"{done.job} cannot be trained: {done.result}")
            shutil.copy(sound / done.job / "checkpoints" / "best.ckpt", stage / f"{done.job}.ckpt")
    config = stage / "config.yaml"
    for task in SMALL:  # the parser keeps some of what it finds, and every job then has it
        config.write_text(yaml.safe_dump(base(task)))
        with contextlib.chdir(stage):
            CLI(["--config", str(config), "--name", task])
    config.unlink()


def walk(stage: Path) -> int:
    """Print what was named, what was accepted, and what that did. Return the number of functions that were accepted,
    and of classes that did harm.

    Args:
        stage: a folder that `furnish` has filled.
    """
    start = time.monotonic()
    every, of_fit, where = names(), kinds_of_fit(), places()
    kinds = {place: annotation(place, of_fit) for place in where}
    checks = list(apart(lambda place: accepted(every, place, kinds[place]), where, stage))
    if harmed := [f"{done.job.key}: {done.effects}" for done in checks if done.effects]:
        raise RuntimeError(f"checking names did something: {harmed}")
    gadgets = [Gadget(done.job, path, every[path]) for done in checks for path in done.result[1]]
    functions = [gadget.path for gadget in gadgets if not isinstance(gadget.thing, type)]
    print(
        f"{len(every):,} names of functions and classes, {len(where)} places: "
        f"{sum(done.result[0] for done in checks):,} combinations, of which {len(gadgets):,} are accepted: "
        f"{len({id(one.thing) for one in gadgets}):,} classes, and as functions {functions or 'none'}"
        f" ({time.monotonic() - start:.0f} s)",
        flush=True,
    )
    jobs = [one for gadget in to_be_made(gadgets) for one in aimed(gadget)]
    uses: dict[int, list[Use]] = {}
    harmful_classes = set()
    for done in apart(use, jobs, stage):
        gadget, place = done.job, done.job.place.key.replace(".init_args", "")
        result = done.result if isinstance(done.result, Use) else Use(gadget.path, False, [str(done.result)])
        uses.setdefault(id(gadget.thing), []).append(result)
        server = SERVERS.get(gadget.path)
        effects = [one for one in done.effects if not server or server not in one]
        if effects:
            harmful_classes.add(gadget.path)
        if effects or os.environ.get("VERBOSE"):
            seen = "; ".join(effects)[:900] or "nothing"
            print(f"{place} = {gadget.path} ({gadget.aim}): {seen} was seen, {result} {done.seconds:.1f} s", flush=True)
    ends = [
        [end for one in all_uses for end in one.endings] for all_uses in uses.values() if any(u.made for u in all_uses)
    ]
    ran = sum(any(end.endswith("works") for end in endings) for endings in ends)
    print(
        f"{len(uses):,} classes were tried in {len(jobs):,} runs; {len(ends):,} were made, and with {ran:,} of these a "
        f"run or a test went to its end; {len(uses) - len(ends)} were not made:"
    )
    unmade = [all_uses[0] for all_uses in uses.values() if not any(one.made for one in all_uses)]
    reasons: dict[str, list[str]] = {}
    for one in unmade:
        reasons.setdefault(reason(one), []).append(one.path.rpartition(".")[2])
    for why, classes in sorted(reasons.items()):
        print(f"  {len(classes)} {why}: {', '.join(classes)}")
    print(
        f"seen outside of the runs' folders: {', '.join(sorted(harmful_classes)) or 'nothing'}"
        f" ({time.monotonic() - start:.0f} s)"
    )
    return len(functions) + len(harmful_classes)


def reason(use: Use) -> str:
    """Return why a class could not be made."""
    reasons = {
        "is missing": "need an argument that a file cannot hold, or that the place does not have",
        "cannot be described in a config": "are refused as schedules, since they take functions or schedules",
        "not in the run's folder": "are refused for a path",
        "Does not validate": "are abstract, or take what a file cannot hold",
        "cannot represent": "have a default that the parser cannot write down",
    }
    return next((why for words, why in reasons.items() if words in use.endings[0]), use.endings[0])


def prepare() -> None:
    """Set up this process, and thereby the processes of all jobs."""
    process.quiet()
    torch.set_num_threads(1)
    parameter_annotations(nn.Linear)  # jsonargparse asks Python for its path, once in a process
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
