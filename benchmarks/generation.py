"""Speed of a generator beside a bare PyTorch loop: in training, and in making samples.

    python benchmarks/generation.py [--config configs/generation.yaml] [--steps 200] [--data.root FOLDER ...]
    python benchmarks/generation.py --run runs/generation_mnist/version_0 [--samples 100]

Both train the config's net with its optimizer and averaged weights, each in a process of its own, in turns; wanted is a
ratio of at least 1. What it does not know itself it hands to the template. How good the samples are says the run's
report; over several seeds: benchmarks/learning.py.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

import lightning as L
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import project
from kit.cli import command_line as cli
from kit.cli import process
from kit.training import EMA
from kit.training.schedule import WarmupCosine


def built(config: str, others: list[str], folder: str) -> cli.CLI:
    """What `python -m project.fit` would train."""
    options = {"--config": config, "--name": "speed", "--trainer.default_root_dir": folder, "--check": "off"}
    return cli.CLI([part for pair in options.items() for part in pair] + others)


def template(config: str, steps: int, skip: int, others: list[str]) -> float:
    """Images a second, the first `skip` steps left out; default callbacks and TensorBoard included."""
    process.prepare()
    times = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *_) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        limits = ["--trainer.max_steps", str(steps), "--trainer.max_epochs", "-1", "--trainer.limit_val_batches", "0"]
        run = built(config, [*others, *limits], folder)
        run.trainer.callbacks.append(Clock())
        run.trainer.fit(run.model, datamodule=run.datamodule)
    return run.datamodule.batch_size * (steps - skip) / (times[-1] - times[skip - 1])


def plain(config: str, steps: int, skip: int, others: list[str]) -> float:
    """The same of a loop of one page over the images in memory."""
    with tempfile.TemporaryDirectory() as folder:
        run = built(config, others, folder)
        run.datamodule.setup("fit")
        samples = run.datamodule.train_dataloader().dataset.samples
        pixels, classes = torch.stack(list(samples.fetch(range(len(samples))))), samples.targets
    task, batch_size = run.model, run.datamodule.batch_size
    net = task.net
    averages = [callback for callback in run.trainer.callbacks if isinstance(callback, EMA)]
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(averages[0].decay)) if averages else None
    optimizer = task.optimizer(net.parameters())
    schedule = WarmupCosine(optimizer, steps)
    order = torch.cat([torch.randperm(len(pixels)) for _ in range(1 + steps * batch_size // len(pixels))])
    for step, places in enumerate(order.split(batch_size)[:steps]):
        if step == skip:
            since = time.perf_counter()
        images, labels = pixels[places].float() / 127.5 - 1, classes[places]
        labels = labels.masked_fill(torch.rand(len(labels)) < task.unlabelled, task.num_classes)
        noise, times = torch.randn_like(images), torch.randn(len(images)).sigmoid()
        share = times.view(-1, 1, 1, 1)
        loss = (net((1 - share) * noise + share * images, times, labels) - (images - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(net.parameters(), run.trainer.gradient_clip_val)
        optimizer.step()
        schedule.step()
        if averaged:
            averaged.update_parameters(net)
    return batch_size * (steps - skip) / (time.perf_counter() - since)


def sampling(folder: str, count: int, rounds: int) -> None:
    """Seconds of so many samples: the task's, and those of its net and Euler's or Heun's steps alone."""
    process.prepare()
    model = project.load(folder, device="cpu")
    task, size, spent = model.task, model.preprocessing.size, {"task": [], "bare": []}
    classes = torch.arange(count) % task.num_classes
    for _ in range(rounds):
        since = time.perf_counter()
        task.sample(classes, range(count), size)
        spent["task"].append(time.perf_counter() - since)
        since = time.perf_counter()
        with torch.no_grad():
            start = torch.randn(count, task.solver.num_noises, task.in_channels, *size)
            task.solver(lambda x, t: task.net(x, torch.full((len(x),), t), classes), start)
        spent["bare"].append(time.perf_counter() - since)
    ours, bare = (statistics.median(times) for times in spent.values())
    print(f"{count} samples: {ours:.2f} s, of the net alone {bare:.2f} s, ratio {bare / ours:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", default="configs/generation.yaml", help="a config file, as of fit")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (3)")
    parser.add_argument("--steps", type=int, default=200, help="of each measurement (200)")
    parser.add_argument("--skip", type=int, default=20, help="first steps left out (20), at least 1")
    parser.add_argument("--run", help="a trained generator: measures how long its samples take, instead")
    parser.add_argument("--samples", type=int, default=100, help="how many at once (100)")
    parser.add_argument("--only", choices=["plain", "template"], help=argparse.SUPPRESS)
    options, others = parser.parse_known_args()
    if options.run:
        return sampling(options.run, options.samples, options.rounds)
    if options.only:
        measured = (plain if options.only == "plain" else template)(options.config, options.steps, options.skip, others)
        return print(measured)
    speeds = {"template": [], "plain": []}
    for _ in range(options.rounds):
        for which, found in speeds.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--only", which]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found.append(float(output.splitlines()[-1]))
    ratio = statistics.median(a / b for a, b in zip(*speeds.values(), strict=True))
    ours, bare = (statistics.median(found) for found in speeds.values())
    print(f"training: {ours:,.0f} images/s, a bare loop {bare:,.0f}, ratio {ratio:.3f} (at least 1 is wanted)")


if __name__ == "__main__":
    main()
