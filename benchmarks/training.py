"""Training speed and peak memory of the template against a bare PyTorch loop that does the same work.

    python benchmarks/training.py [--rounds 5] [--steps 80]

Both train the net of configs/classification_mnist.yaml on as much synthetic data as MNIST has, each in a process of its
own, in turns. Wanted: a ratio of speeds of at least 0.95, of memory of at most 1.3.
"""

import argparse
import importlib.util
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Nothing heavy up here: the bare process must import only what a bare loop imports, and what the parent takes counts
# in its children's peak (Linux hands it on through fork and exec).
REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = REPOSITORY / "configs/classification_mnist.yaml"
MEAN, STD = 0.1307, 0.3081  # MNIST's; any numbers cost the same


def write_data(root: Path) -> None:
    """Noise in the files that torchvision expects of MNIST, and as many images."""
    folder, noise = root / "MNIST/raw", random.Random(0)
    folder.mkdir(parents=True)
    for split, count in (("train", 60_000), ("t10k", 10_000)):
        with (folder / f"{split}-images-idx3-ubyte").open("wb") as file:
            file.write(struct.pack(">4I", 0x803, count, 28, 28))
            for _ in range(count // 1000):  # in parts, to stay small
                file.write(noise.randbytes(1000 * 28 * 28))
        labels = bytes(byte % 10 for byte in noise.randbytes(count))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels)


def bare(root: Path, steps: int, skip: int) -> float:
    """Images a second, the first `skip` steps left out."""
    import torch
    import yaml
    from torch.nn import functional as F
    from torch.nn.utils import clip_grad_norm_
    from torchvision.datasets import MNIST
    from torchvision.transforms import v2

    from kit.training.schedule import WarmupCosine

    spec = importlib.util.spec_from_file_location("nets", REPOSITORY / "src/project/classification/model.py")
    nets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nets)

    config = yaml.safe_load(CONFIG.read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    torch.manual_seed(0)
    dataset = MNIST(root, train=True)
    images, targets = dataset.data[:, None], dataset.targets
    augment = v2.Compose([_named(part["class_path"])(**part.get("init_args", {})) for part in data["augment"]])
    net = getattr(nets, model["net"]["class_path"].split(".")[-1])
    net = net(num_classes=10, in_channels=1, **model["net"].get("init_args", {})).to(memory_format=torch.channels_last)
    decayed, others = ([p for p in net.parameters() if (p.ndim > 1) is many] for many in (True, False))
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = _named(model["optimizer"]["class_path"])(groups, **model["optimizer"].get("init_args", {}))
    schedule = WarmupCosine(optimizer, steps)
    net.train()
    for step, places in enumerate(torch.randperm(len(images)).split(data["batch_size"])[:steps]):
        if step == skip:
            started = time.perf_counter()
        batch = torch.stack([augment(image) for image in images[places]])
        batch = batch.to(torch.float32, memory_format=torch.channels_last).mul_(1 / (255 * STD)).sub_(MEAN / STD)
        loss = F.cross_entropy(net(batch), targets[places])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return data["batch_size"] * (steps - skip) / (time.perf_counter() - started)


def template(root: Path, steps: int, skip: int) -> float:
    """The same of what `python -m project.fit` builds, default callbacks and TensorBoard included."""
    from kit.cli import command_line as cli
    from kit.cli import process

    # isort: split
    import lightning as L

    process.prepare()
    times = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *_) -> None:
            times.append(time.perf_counter())

    options = {"--config": CONFIG, "--data.root": root, "--trainer.default_root_dir": root / "runs", "--name": "speed"}
    # The validation comes after the last step: it counts for the memory only.
    options |= {"--trainer.max_epochs": 1, "--trainer.limit_train_batches": steps, "--trainer.limit_val_batches": 2}
    options |= {"--auto_precision": "false"}
    run = cli.CLI([str(part) for pair in options.items() for part in pair])
    run.trainer.callbacks.append(Clock())
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert len(times) == steps, f"the template made {len(times)} steps, not {steps}"
    return run.datamodule.batch_size * (steps - skip) / (times[-1] - times[skip - 1])


def measure(which: str, root: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Images a second, and the process's peak memory in MB (there are no workers: the images are in memory)."""
    numbers = ["--steps", options.steps, "--skip", options.skip, "--root", root]
    command = [sys.executable, __file__, "--only", which, *map(str, numbers)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    speed, memory = map(float, output.splitlines()[-1].split())
    return speed, memory


def peak() -> float:
    """MB; asked before the process ends, as torch's unloading then takes another 120 of its own."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _named(path: str):
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    parser.add_argument("--steps", type=int, default=80, help="of each measurement (80), at most 421")
    parser.add_argument("--skip", type=int, default=10, help="first steps left out (10), at least 1")
    parser.add_argument("--only", choices=["bare", "template"], help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 1 <= options.skip < options.steps <= 421:
        parser.error("1 <= skip < steps <= 421 is needed: an epoch has 421 steps")
    if options.only:
        print((bare if options.only == "bare" else template)(options.root, options.steps, options.skip), peak())
        return
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        names = ("template", "bare")
        pairs = [[measure(which, Path(folder), options) for which in names] for _ in range(options.rounds)]
    print(f"{'':12}{'template':>12}{'bare':>12}{'ratio':>9}   wanted")
    for place, (what, wanted) in enumerate((("images/s", ">= 0.95"), ("peak MB", "<= 1.3"))):
        ours, theirs = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(pair[0][place] / pair[1][place] for pair in pairs)
        print(f"{what:12}{ours:12,.0f}{theirs:12,.0f}{ratio:9.3f}   {wanted}")


if __name__ == "__main__":
    main()
