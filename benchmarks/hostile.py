"""A thousand checkpoints and run folders of strangers: none runs foreign code, none ends in a traceback.

    python benchmarks/hostile.py [--count 1000] [--seed 0] [--walk false]

A run on the digits is made once. Then its checkpoint, or its config, is harmed in one of the ways below, and given to
`project.test`, or to `project.fit --resume`, each time in a process of its own. Foreign code is a module that writes a
file when it is imported or called, or a command that does; `watched.py` sees that, and whatever else is done outside of
the run's folder. A file that is harmed where nobody looks still works.

Then `gadgets.py` puts each function and class of the project and its libraries where a file could name it.
The exit code is 1 if anything was seen, or ended in a traceback.
"""

import argparse
import copy
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gadgets
import torch
import yaml
from watched import apart

from kit.cli import verbs

ONCE = [*gadgets.SHORT, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1", "--check", "off"]
FOREIGN = """
from pathlib import Path
import torch
Path("touched").touch()
class Net(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        Path("touched").touch()
def net(*args, **kwargs):
    Path("touched").touch()
"""
TOUCH = {"command": "touch touched", "args": ["touch", "touched"], "source": "open('touched', 'w')"}
TOUCH |= {"file": "touched", "content": "touched"}
PATHS = (
    *("os.system", "posix.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "torch.os.system"),
    *("kit.ground.files.write_text", "kit.ground.files.replacing", "torchvision.models.get_model"),
    *("foreign.Net", "foreign.net", "torch.hub.load", "torch.load", "torch.utils.cpp_extension.load_inline"),
    *(
        "kit.cli.verbs.re.compile",
        "kit.cli.command_line.CLI",
        "torchvision.datasets.utils.download_url",
        "lightning.Trainer",
    ),
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
    *("torch.optim.AdamW", "torch.nn.Linear", "torchvision.transforms.v2.Lambda", "torch.optim.lr_scheduler.LambdaLR"),
)
OTHERS = (None, True, -1, 10**30, float("nan"), 0.5, "", "abc", "x" * 100_000, "a\nb", [], {}, [[]], [None], {"a": 1})
OTHERS += ({1: 2}, "{class_path: foreign.Net}", "foreign.net", "torch.hub.load")
SPOTS = ("net", "optimizer", "schedule", "augment", "callbacks", "logger", "_class_path", "class_path")
RUNNABLE = ("foreign.Net", "foreign.net", "os.getcwd", "foreign.Net")

Content = dict[str, Any]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inside in items for place in ((value, key), *places(inside))]


def hostile(value: Any, dice: random.Random) -> None:
    """Names what must not run in some place; half of the time where a class belongs, in a form that would run."""
    every = places(value)
    spots = [place for place in every if place[1] in SPOTS]
    likely = bool(spots) and dice.random() < 0.5
    container, key = dice.choice(spots if likely else every)
    path = dice.choice(RUNNABLE if likely else PATHS)
    within = spec(path, **dice.choice([{}, TOUCH, {"lambd": "foreign.net"}, {"lr_lambda": "foreign.net"}]))
    if likely:
        wrapped = {
            "augment": [spec("torchvision.transforms.v2.Lambda", lambd="foreign.net")],
            "schedule": spec("torch.optim.lr_scheduler.LambdaLR", lr_lambda="foreign.net"),
            "callbacks": [spec("lightning.pytorch.callbacks.LambdaCallback", on_fit_start="foreign.net")],
        }
        container[key] = dice.choice([path, spec(path), wrapped.get(key, spec(path))])
    else:
        container[key] = dice.choice([path, within, [within], str(within), {"inside": within}, yaml.safe_dump(within)])


def spec(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


def other(value: Any, dice: random.Random) -> None:
    """A value of another type in some place."""
    container, key = dice.choice(places(value))
    container[key] = copy.deepcopy(dice.choice(OTHERS))


def missing(value: Any, dice: random.Random) -> None:
    container, key = dice.choice(places(value))
    del container[key]


def nested(value: Any, dice: random.Random) -> None:
    container, key = dice.choice(places(value))
    inside: Any = "foreign.net"
    for _ in range(dice.choice([10, 60, 300])):
        inside = [inside] if dice.random() < 0.5 else {"class_path": inside}
    container[key] = inside


def tensors(content: Content, dice: random.Random) -> None:
    """Weights that are missing, of other shapes, or no numbers."""
    name = dice.choice(list(content["state_dict"]))
    weight = content["state_dict"][name].float()
    new = dice.choice(
        [weight[None], weight.flatten()[:0], weight * float("nan"), weight.bool(), 3, None, "x", [weight]]
    )
    content["state_dict"] = dice.choice([{**content["state_dict"], name: new}, {**content["state_dict"], "more": new}])


def random_bytes(data: bytes, dice: random.Random) -> bytes:
    start = dice.choice([b"", b"PK\3\4", b"\x80\2", data[: dice.randrange(2000)]])
    return start + dice.randbytes(dice.randrange(5000))


def cut_off(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


def bits_flipped(data: bytes, dice: random.Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(dice.choice([1, 10, 1000])):
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
    return bytes(flipped)


VALUES: tuple[Callable[[Any, random.Random], None], ...] = (hostile, hostile, hostile, other, other, missing, nested)
BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (random_bytes, cut_off, bits_flipped)


def harm(run: Path, file: Path, dice: random.Random) -> str:
    """Harms the checkpoint `file` of a run, or the run's config. Returns how."""
    config = run / "config.yaml"
    if file.name == "last.ckpt" and dice.random() < 0.5:
        if dice.random() < 0.2:
            how = dice.choice(BYTES)
            config.write_bytes(how(config.read_bytes(), dice))
            return f"config: {how.__name__}"
        change = dice.choice(VALUES)
        values = yaml.safe_load(config.read_text())
        change(values, dice)
        config.write_text(yaml.safe_dump(values))
        return f"config: {change.__name__}"
    if dice.random() < 0.3:
        how = dice.choice(BYTES)
        file.write_bytes(how(file.read_bytes(), dice))
        return how.__name__
    content = torch.load(file, weights_only=True)
    change = dice.choice([*VALUES, tensors])
    parameters = {key: content.pop(key) for key in ("hyper_parameters", "datamodule_hyper_parameters")}
    change(content if change is tensors else dice.choice([parameters, parameters, parameters, content]), dice)
    torch.save({**content, **parameters}, file)
    return change.__name__


def attack(seed: int | None) -> tuple[str, str]:
    """Harm the run, if there is a seed, and use it. Return how it was harmed, and how that ended."""
    dice = random.Random(seed)
    file = Path("run/checkpoints", dice.choice(["best.ckpt", "best.ckpt", "last.ckpt"]))
    how = "nothing" if seed is None else harm(Path("run"), file, dice)
    sys.path.insert(0, str(Path.cwd()))
    if file.name == "last.ckpt":
        return how, gadgets.ending(lambda: verbs.fit(["--resume", "run", *ONCE]))
    return how, gadgets.ending(lambda: verbs.test([str(file), *gadgets.SHORT]))


def hostile_files(seeds: Iterable[int], stage: Path) -> int:
    """Print how each harm ended. Return the number of files that did what they must not."""
    start = time.monotonic()
    ends = ("one line", "still works", "traceback")
    table: Counter[tuple[str, str]] = Counter()
    wrong, slowest, largest = 0, 0.0, 0.0
    for done in apart(attack, [None, None, *seeds], stage):
        how, ending = done.result if isinstance(done.result, tuple) else ("?", str(done.result))
        one_line = ending.startswith("refused: ") and "\n" not in ending
        ended = "still works" if ending == "works" else "one line" if one_line else "traceback"
        if done.effects or ended == "traceback" or (done.job is None and ended != "still works"):
            wrong += 1
            print(f"{done.job} {how}: {done.effects or 'nothing'} was seen; {ending}", flush=True)
        table[how, ended] += 1
        slowest, largest = max(slowest, done.seconds), max(largest, done.gigabytes)

    print(f"{'harm':<24}" + "".join(f"{end:>14}" for end in ends))
    for how in sorted({how for how, _ in table}):
        print(f"{how:<24}" + "".join(f"{table[how, end]:14}" for end in ends))
    print(f"{'all':<24}" + "".join(f"{sum(table[how, end] for how, e in table if e == end):14}" for end in ends))
    print(
        f"{table.total():,} files, the slowest took {slowest:.1f} s of a core, the largest {largest:.1f} GB more than "
        f"the libraries; {wrong} did what they must not, wanted 0 ({time.monotonic() - start:.0f} s)",
        flush=True,
    )
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--walk", choices=["true", "false"], default="true", help="over all functions and classes")
    options = parser.parse_args()
    gadgets.prepare()
    with tempfile.TemporaryDirectory() as folder:
        stage, sound, harmed = (Path(folder, name).resolve() for name in ("stage", "sound", "harmed"))
        gadgets.furnish(stage, sound)
        shutil.copytree(sound / "classification", harmed / "run")
        (harmed / "foreign.py").write_text(FOREIGN)
        wrong = hostile_files(range(options.seed * 1_000_003, options.seed * 1_000_003 + options.count), harmed)
        wrong += gadgets.walk(stage) if options.walk == "true" else 0
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
