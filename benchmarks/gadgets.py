"""Every function and class of the libraries, put where a stranger's file could name it: what it does there.

For `benchmarks/hostile.py`. First each name is checked in each place, as `test` and `--resume` check it. Then each
class that a place accepts is made and used by these verbs, in other processes, with arguments that would do harm: paths
outside of the run's folder, commands, addresses. Python's audit hooks, and the files themselves, show what was done.
"""

import contextlib
import importlib
import io
import json
import os
import pickle
import pkgutil
import select
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
import yaml
from PIL import Image

from project import UserError, trust, verbs
from project.annotations import Expected, Kinds, of_parameters, of_parser
from project.cli import CLI
from project.pipeline.threads import cores

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PACKAGES = ("project", "torch", "torchvision", "lightning", "timm", "segmentation_models_pytorch")
EVENTS = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("shutil.", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.Request"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OBEYED = ("optimizer", "schedule")  # by a run, in each step
GIVEN = ("num_classes", "in_channels", "params", "optimizer", "last_epoch")  # by who makes the class
SECONDS = 120  # for one class: what takes longer hangs
SPLITS = ("train", "val", "test")
SHORT = ["--trainer.accelerator", "cpu", "--trainer.limit_test_batches", "2"]

Config = dict[str, Any]


class Place(NamedTuple):
    """
    key: of a run's config.yaml.
    wrap: what stands there, of a value in this place.
    task: the config with which a run is trained that has the value.
    trained: so is every class that is accepted there; else only the project's own.
    """

    key: str
    wrap: Callable[[Any], Any]
    task: str
    trained: bool = False


class Gadget(NamedTuple):
    """A class that a place accepts."""

    place: Place
    path: str
    thing: Any


def spec(path: str, **arguments: Any) -> Config:
    return {"class_path": path, "init_args": arguments}


def itself(value: Any) -> Any:
    return value


def listed(value: Any) -> list[Any]:
    return [value]


def places() -> list[Place]:
    """Where a class may stand: in the tasks and data modules of the shipped configs, in classes, in the trainer."""
    found: dict[tuple[str, str], Place] = {}
    for task in tasks():
        for part in ("model", "data"):
            found.setdefault((part, ""), Place(part, itself, task))
            for name, kind in of_parameters(class_of(base(task, Path())[part]["class_path"])).items():
                expected = Expected.by([kind])
                wrap = itself if expected.classes else listed if Expected.by(expected.items).classes else None
                if wrap:
                    place = Place(f"{part}.init_args.{name}", wrap, task, trained=name in OBEYED)
                    found.setdefault((place.key, str(kind)), place)
    first, v2, rate = tasks()[0], "torchvision.transforms.v2", "torch.optim.lr_scheduler.LambdaLR"
    return [
        *found.values(),
        Place("model.init_args.schedule", lambda value: spec(rate, lr_lambda=value), first),
        Place("data.init_args.augment", lambda value: [spec(f"{v2}.RandomApply", transforms=[value])], first),
        Place("data.init_args.augment", lambda value: [spec(f"{v2}.Lambda", lambd=value)], first),
        *(Place(f"trainer.{key}", itself, first, trained=True) for key in ("accelerator", "strategy", "logger")),
        *(Place(f"trainer.{key}", listed, first, trained=True) for key in ("callbacks", "plugins")),
        Place("trainer.profiler", itself, first, trained=True),
    ]


def tasks() -> list[str]:
    """The shipped configs, those of a task in a row."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def modules() -> list[str]:
    """The public modules of the packages; all that can be are imported."""
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
    """Each function and class in the modules, by its path in every module that has it."""
    return {
        f"{module}.{name}": value
        for module in modules()
        for name, value in sorted(vars(sys.modules[module]).items())
        if callable(value) and name.isidentifier()
    }


def shortest(every: dict[str, Any]) -> dict[str, Any]:
    """Each thing once, and once more by each module that is listed."""
    found: dict[Any, str] = {}
    for path in sorted(every, key=len, reverse=True):
        module = path.rpartition(".")[0]
        found[id(every[path]), module if module in trust.LISTED else None] = path
    return {path: every[path] for path in found.values()}


def accepted(every: dict[str, Any], where: Sequence[Place]) -> tuple[int, list[Gadget]]:
    """How many combinations were checked, and those that were accepted, each class once a place.

    One place is given each path of a thing, also as a bare name; the others its shortest path.
    """
    checked, found = 0, []
    of_fit, once = kinds_of_fit(), shortest(every)
    for place in where:
        thorough = place.key == "model.init_args.net"
        kind = annotation(place, of_fit)
        seen: set[int] = set()
        for path, thing in (every if thorough else once).items():
            for value in ({"class_path": path}, path)[: 1 + thorough]:
                checked += 1
                with contextlib.suppress(UserError):
                    trust.check_values({place.key: place.wrap(value)}, {place.key: kind}, Path("config.yaml"))
                    if id(thing) not in seen:
                        seen.add(id(thing))
                        found.append(Gadget(place, path, thing))
    return checked, found


def annotation(place: Place, of_fit: Kinds) -> Any:
    """What the parser goes by in a place."""
    part, *inside = place.key.split(".")
    if part == "trainer":
        return of_fit[part][inside[0]]
    if not inside:
        return of_fit[part]
    return of_parameters(class_of(base(place.task, Path())[part]["class_path"]))[inside[-1]]


def kinds_of_fit() -> Kinds:
    """The annotations of the keys of `python -m project.fit`."""
    found: list[Kinds] = []

    class Peek(CLI):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            found.append(of_parser(parser))
            raise StopIteration

    with contextlib.suppress(StopIteration):
        Peek([])
    return found[0]


def to_be_made(gadgets: Sequence[Gadget]) -> list[Gadget]:
    """Each class in the first place that accepts it, and wherever a run obeys it."""
    first = {id(gadget.thing): gadget for gadget in reversed(gadgets)}
    return [gadget for gadget in gadgets if gadget.place.trained or first[id(gadget.thing)] is gadget]


def harmful(thing: Any, outside: Path, there: bool) -> Config:
    """Arguments of a class that would do harm if they were obeyed.

    Args:
        there: paths lead to what is there, else to what could be made.
    """
    try:
        kinds = of_parameters(thing)
    except Exception:  # a signature that cannot be read: it is made without arguments
        return {}
    filled = {name: _harm(name.lower(), kind, outside, there) for name, kind in kinds.items() if name not in GIVEN}
    return {name: value for name, value in filled.items() if value is not None}


def _harm(name: str, kind: Any, outside: Path, there: bool) -> Any:
    kinds = {str(one) for one in (kind, *get_args(kind))} if not isinstance(kind, dict) else set()

    def about(*words: str) -> bool:
        return any(word in name for word in words)

    if "<class 'bool'>" in kinds:
        wanted = about("download", "pretrained", "force", "overwrite", "delete", "save")
        return True if wanted else None
    if about("worker"):  # a number of processes that is obeyed within the bounds of the machine
        return None
    if any("str" in one or "Path" in one or "Any" in one for one in kinds) and not any(
        "Literal" in one for one in kinds
    ):
        if about("url", "uri", "host", "address", "repo", "hub"):
            return "http://127.0.0.1:9/harm"
        if about("command", "cmd", "program", "script", "source", "code"):
            return f"touch {outside / 'touched'}"
        if about("weights", "checkpoint", "ckpt", "inception"):
            return str(outside / "evil.pt")
        if about("path", "dir", "file", "root", "folder", "run", "cache", "judge", "style", "log", "out"):
            return str(outside / ("folder" if there else "new"))
    simple = {"<class 'int'>": 3, "<class 'float'>": 0.5, "list[int]": [3], "<class 'str'>": str(outside / "new")}
    return simple.get(str(kind)) if there else None


class Watch:
    """What Python's audit hooks tell, of what happens outside of a run's folder."""

    def __init__(self) -> None:
        self.on, self.inside, self.events = False, "", list[str]()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what happens in here is ours
        try:
            if event == "open":
                path, _, flags = arguments
                if isinstance(path, (str, bytes, os.PathLike)) and isinstance(flags, int) and flags & WRITING:
                    self._note(event, [path])
            elif event.startswith(EVENTS):
                self._note(event, arguments)
        finally:
            self.on = True

    def _note(self, event: str, arguments: Sequence[Any]) -> None:
        paths = [os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))]
        if event == "os.mkdir" and Path(paths[0]).is_dir():  # it is there already, and nothing is made
            return
        within = [f"{os.path.realpath(path)}/".startswith(self.inside) or path == os.devnull for path in paths]
        if not paths or not all(within):
            self.events.append(f"{event} {str(arguments)[:200]}")


WATCH = Watch()


def use(gadget: Gadget, arguments: Config, sandbox: Path) -> str:
    """Makes a class as `test` and `--resume` do, and trains with it. Returns how that ended."""
    config = config_with(gadget, arguments, sandbox)
    run, file, ended = sandbox / "run", sandbox / "some.ckpt", []
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    if gadget.place.trained or gadget.path.startswith("project."):
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        ended.append(f"resume: {_outcome(lambda: verbs.fit(['--resume', str(run)]))}")
    if not gadget.place.key.startswith("trainer."):
        best = run / "checkpoints" / "best.ckpt"
        if not best.is_file():
            torch.save(checkpoint_of(config), file)
        tested = str(best if best.is_file() else file)
        ended.append(f"test: {_outcome(lambda: verbs.test([tested, *SHORT]))}")
    return "; ".join(ended)


def config_with(gadget: Gadget, arguments: Config, sandbox: Path) -> Config:
    """A run's config that names a class in its place; a task or a data module in the shipped config that has it."""
    place = gadget.place
    config = base(place.task, sandbox)
    *groups, key = place.key.split(".")
    if not groups:
        for task in tasks():
            shipped = base(task, sandbox)
            if shipped[key]["class_path"].rpartition(".")[2] == gadget.path.rpartition(".")[2]:
                shipped[key].setdefault("init_args", {}).update(arguments)
                return shipped
    inside = config
    for group in groups:
        inside = inside[group]
    inside[key] = place.wrap({"class_path": gadget.path, "init_args": arguments})
    return config


def checkpoint_of(config: Config) -> dict[str, Any]:
    """A checkpoint that says the same as a run's config, without weights."""
    parts = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
    told = {"mean": [0.5], "std": [0.5], "class_names": ["a", "b"], "in_channels": 1}
    found: dict[str, Any] = {"state_dict": {}}
    for part, key in parts.items():
        whole = config[part]
        found[key] = {"_class_path": whole["class_path"], **whole.get("init_args", {})}
    found["hyper_parameters"] |= {"num_classes": 2, "in_channels": 1}
    return {**found, config["data"]["class_path"].rpartition(".")[2]: told}


def base(task: str, sandbox: Path) -> Config:
    """A shipped config, made small, on what `furnish` makes."""
    config = yaml.safe_load((CONFIGS / f"{task}.yaml").read_text())
    config["trainer"] = {"max_epochs": 1, "accelerator": "cpu", **{f"limit_{split}_batches": 2 for split in SPLITS}}
    config["check"] = "off"
    model, data = (config[part].setdefault("init_args", {}) for part in ("model", "data"))
    model["net"].setdefault("init_args", {}).pop("pretrained", None)
    data |= {"batch_size": 4, "num_workers": 0}
    if "train" in data:
        data["train"] = 20
    if "style" in model:
        model["style"] = str(sandbox / "style.png")
        data |= {"root": str(sandbox / "photos"), "image_size": [32, 32], "augment": []}
    return config


def _outcome(work: Callable[[], Any]) -> str:
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            WATCH.on = True
            work()
    except UserError as error:
        return f"refused: {error}"[:300]
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        WATCH.on = False
    return "works"


class Done(NamedTuple):
    """What came of a class.

    effects: what it did outside of the run's folder.
    """

    gadget: Gadget
    ended: str
    effects: list[str]


class Worker:
    """A process that makes and uses classes, one after the other. It may hang, or die."""

    def __init__(self, left: list[Gadget], sandbox: Path) -> None:
        self.left, self.sandbox, self.since, self.told = left, sandbox, time.monotonic(), b""
        self.reader, writer = os.pipe()
        self.process = os.fork()
        if not self.process:
            sys.addaudithook(WATCH)
            torch.set_num_threads(1)
            sandbox.mkdir(exist_ok=True)
            os.chdir(sandbox)
            for gadget in left:
                os.write(writer, json.dumps(_try(gadget, sandbox)).encode() + b"\n")
            os._exit(0)
        os.close(writer)

    def news(self) -> Iterator[Done]:
        """Yields what it has done since, when there is something to read."""
        read = os.read(self.reader, 1 << 20)
        *lines, self.told = (self.told + read).split(b"\n")
        for line in lines:
            self.since = time.monotonic()
            yield Done(self.left.pop(0), *json.loads(line))
        if not read and self.left:
            yield Done(self.left.pop(0), "the process died", ["dies"])

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.reader)


def tried(gadgets: Sequence[Gadget], sandbox: Path) -> Iterator[Done]:
    """Makes and uses each class, in a process for each core, which is replaced when it hangs or dies."""
    count = max(1, min(cores(), len(gadgets)))
    workers = [Worker(list(gadgets[share::count]), sandbox / str(share)) for share in range(count)]
    while workers:
        ready = select.select([worker.reader for worker in workers], [], [], 1)[0]
        for worker in list(workers):
            before = len(worker.left)
            if worker.reader in ready:
                yield from worker.news()
                ended = (not worker.told and len(worker.left) == before) or not worker.left
            elif ended := time.monotonic() - worker.since > SECONDS:
                yield Done(worker.left.pop(0), f"did not end within {SECONDS} s", ["hangs"])
            if ended:
                worker.end()
                workers.remove(worker)
                if worker.left:
                    workers.append(Worker(worker.left, worker.sandbox))


def _try(gadget: Gadget, sandbox: Path) -> tuple[str, list[str]]:
    outside = sandbox / "outside"
    ended: list[str] = []
    effects: list[str] = []
    tries = [harmful(gadget.thing, outside, there) for there in (True, False)]
    tries.append({name: value for name, value in tries[0].items() if str(outside) not in str(value)})
    for arguments in [one for place, one in enumerate(tries) if one not in tries[:place]]:
        furnish(sandbox)
        before = _state(outside)
        WATCH.inside, WATCH.events = os.path.realpath(sandbox / "run") + "/", []
        ended.append(use(gadget, arguments, sandbox))
        effects += [f"{one} with {arguments}" for one in dict.fromkeys(WATCH.events)]
        if _state(outside) != before:
            effects.append(f"files outside of the run are others: {arguments}")
    return " | ".join(ended), effects


class _Evil:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.touched}",)


def furnish(sandbox: Path) -> None:
    """What a stranger would like to be overwritten, deleted or run; and what the tasks need."""
    outside = sandbox / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    (outside / "folder" / "version_0").mkdir(parents=True)
    (outside / "folder" / "precious.txt").write_text("precious")
    (outside / "folder" / "version_0" / "last.ckpt").write_text("precious")
    (outside / "evil.pt").write_bytes(pickle.dumps(_Evil(outside / "touched")))
    if not (sandbox / "photos").is_dir():
        (sandbox / "photos").mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (21, 32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels[0]).save(sandbox / "style.png")
        for number, image in enumerate(pixels[1:]):
            Image.fromarray(image).save(sandbox / "photos" / f"{number}.png")


def _state(folder: Path) -> list[tuple[str, bytes]]:
    return sorted((str(path), path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*"))


def walk(sandbox: Path, every: dict[str, Any] | None = None) -> int:
    """Prints what was named, what was accepted, and what that did. Returns how many did harm.

    Args:
        every: as `names` gives it; by default all.
    """
    start = time.monotonic()
    every = names() if every is None else every
    where = places()
    checked, gadgets = accepted(every, where)
    print(f"{len(every):,} names of functions and classes, {len(where)} places: {checked:,} combinations", flush=True)
    made = to_be_made(gadgets)
    print(f"{len(gadgets):,} are accepted; {len(made):,} are made ({time.monotonic() - start:.0f} s)", flush=True)
    harm, table = 0, Counter[str]()
    for done in tried(made, sandbox):
        place = done.gadget.place.key.replace(".init_args", "")
        table[place] += 1
        harm += bool(done.effects)
        if done.effects:
            print(f"{place} = {done.gadget.path}: {'; '.join(done.effects)[:900]} [{done.ended}]", flush=True)
        elif os.environ.get("VERBOSE"):
            print(f"{place} = {done.gadget.path} [{done.ended}]", flush=True)
    print(", ".join(f"{name} {count}" for name, count in table.items()))
    seconds = time.monotonic() - start
    print(f"{table.total():,} made and used ({seconds:.0f} s): {harm} wrote, started, fetched or hung; wanted 0")
    return harm


if __name__ == "__main__":
    import tempfile

    from project import process

    process.quiet()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.exit(bool(walk(Path(folder).resolve())))
