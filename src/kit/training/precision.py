"""Choose the precision of a run by the time of its training step."""

import copy
import gc
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from kit.data import Batch, ImageDataModule
from kit.ground._lightning import data_module, prepare_batch
from kit.ground._torch import is_compiled
from kit.ground.errors import one_line
from kit.task import Task

FULL = "32-true"
MIXED: Literal["bf16-mixed"] = "bf16-mixed"
MIN_SPEEDUP = 1.2  # a smaller speedup of `MIXED` saves little time, and may be due to chance
ROUNDS = 4  # the number of steps timed in each precision, after one warm-up step
MIN_STEPS = 500  # the ten steps of a measurement are then at most 2 % of the run
MIN_PIXELS = 100e6  # height * width * images of all steps: a run with fewer pixels takes only seconds


class AutoPrecision(L.Callback):
    """Train in `bf16-mixed` if a training step then takes clearly less time on this device.

    Before the first step, a copy of the task and of its optimizer makes steps with the first batch, alternately in both
    precisions. This changes neither the weights, nor random numbers, nor the order of the images. The result is printed
    and written into `config.yaml`, so that the config repeats the run exactly, and a resumed run measures nothing.

    The time is measured only if `is_measurable`, `is_long` and `computes_bfloat16` return True. Otherwise the run
    trains in `32-true`.

    Args:
        config: the config that `SavedConfig` writes. Its key `trainer.precision` is set.
    """

    def __init__(self, config: MutableMapping[str, Any]) -> None:
        self.config = config

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = data_module(trainer)
        if not is_measurable(trainer, pl_module):  # all processes get the same results here and in the next line
            return
        if not is_long(trainer.estimated_stepping_batches, data.batch_size, data.preprocessing.size):
            return
        device = trainer.strategy.root_device
        local_speedup, failure = measure(trainer, pl_module) if computes_bfloat16(device) else (0.0, "")
        local = torch.tensor(local_speedup, device=device)
        # The smallest speedup of all processes. Each process must call `reduce`.
        speedup = float(trainer.strategy.reduce(local, reduce_op="min"))
        if not local_speedup and not failure:
            return  # the device has no bfloat16
        self.config["trainer.precision"] = choose(speedup)
        if choose(speedup) == MIXED:
            trainer.strategy.precision_plugin = BFloat16Mixed(device.type)
            message = f"{MIXED}, {speedup:.1f} times as fast as {FULL} (--auto_precision false keeps {FULL})"
        elif speedup:
            message = f"{FULL}, since {MIXED} is {speedup:.2f} times as fast, less than {MIN_SPEEDUP}"
        else:
            message = f"{FULL}, since {MIXED} failed in a trial ({failure or 'in another process'})"
        rank_zero_only(print)(f"precision: {message}", flush=True)


def measure(trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[float, str]:
    """Return the speedup of `MIXED` (see `speedup_of`) and "".

    If the speedup cannot be measured, return 0.0 and the reason. The reason may be unrelated to bfloat16, such as too
    little memory for the copy. If the cause is neither the copy nor bfloat16, training will fail with the same error.
    """
    speedup, failure = 0.0, ""
    try:
        with isolate_rng():
            speedup = speedup_of(time_steps(trainer, pl_module))
    except Exception as error:
        failure = f"{type(error).__name__}: {one_line(error)}"
    free_memory(trainer.strategy.root_device)
    return speedup, failure


def free_memory(device: torch.device) -> None:
    """Free the GPU memory of the copy, so that the run's peak memory does not include it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def is_measurable(trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
    """Return whether the training step can be timed. `computes_bfloat16` checks the device.

    The module must be a `Task` with automatic optimization that is not compiled, and have an `ImageDataModule`. The run
    must be in `32-true`, on one device or with DDP. It must not require deterministic algorithms, since the precision
    that a measurement chooses may differ between equal runs.
    """
    return (
        isinstance(pl_module, Task)
        and isinstance(data_module(trainer), ImageDataModule)
        and type(trainer.precision_plugin) is Precision
        and isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        and pl_module.automatic_optimization
        and not torch.are_deterministic_algorithms_enabled()
        and not is_compiled(pl_module)
    )


def is_long(steps: float, batch_size: int, size: tuple[int, int] | None) -> bool:
    """Return whether a measurement takes a small part of a run.

    Args:
        steps: the number of optimizer steps.
        batch_size: the number of images in a step.
        size: the height and width of the images, or None if images differ in size, since one batch is then not typical.
    """
    return size is not None and steps >= MIN_STEPS and steps * batch_size * size[0] * size[1] >= MIN_PIXELS


def choose(speedup: float) -> str:
    """Return the precision to train in if `MIXED` is this many times as fast as `FULL`."""
    return MIXED if speedup >= MIN_SPEEDUP else FULL


def speedup_of(seconds: Mapping[str, Sequence[float]]) -> float:
    """Return the speedup of `MIXED`: the time of a step in `FULL` divided by the time in `MIXED`.

    Args:
        seconds: the times of steps in each precision. The shortest is taken, since other programs disturbed it least.
    """
    return min(seconds[FULL]) / min(seconds[MIXED])


def time_steps(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, list[float]]:
    """Return the seconds that training steps of a copy take, by precision.

    On a CPU, a single thread computes one thread's share of the batch, and CPU time is measured. Several threads would
    wait for each other, so that other programs on the machine would change the result.

    The copy also evaluates two images in `MIXED`, since evaluation may use an operation that bfloat16 does not have.
    """
    device, threads = trainer.strategy.root_device, torch.get_num_threads()
    data = data_module(trainer)
    batch = first_batch(trainer, pl_module, data.train_dataloader(), threads if device.type == "cpu" else 1)
    task, optimizers = copy.deepcopy((pl_module, trainer.optimizers))  # together, since they share parameters
    task.trainer = trainer
    task.log = task.log_dict = lambda *_, **__: None
    vars(task).pop("evaluate", None)  # the memory guard's replacement, which would call the original task
    plugins: dict[str, Precision] = {FULL: trainer.precision_plugin, MIXED: BFloat16Mixed(device.type)}
    seconds: dict[str, list[float]] = {name: [] for name in plugins}
    torch.set_num_threads(1)
    try:
        for _ in range(1 + ROUNDS):
            for name, plugin in plugins.items():
                began = _now(device)
                with plugin.train_step_context():
                    output = task.training_step(batch, 0)
                (output["loss"] if isinstance(output, Mapping) else output).backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                seconds[name].append(_now(device) - began)
        batch = first_batch(trainer, pl_module, data.val_dataloader(), parts=data.batch_size)  # at least two images
        with torch.no_grad(), plugins[MIXED].val_step_context():
            task.eval().measure(task.evaluation("val"), batch)
    finally:
        torch.set_num_threads(threads)
    return {name: times[1:] for name, times in seconds.items()}


def first_batch(trainer: L.Trainer, pl_module: L.LightningModule, loader: DataLoader[Any], parts: int) -> Batch:
    """Return the first batch of a loader, on the device.

    If `parts` is above 1, return only the first of that many equal parts of the batch, but at least two images. The
    loader's workers are not started.
    """
    keys = next(iter(loader.batch_sampler))
    batch = loader.dataset.__getitems__(keys[: max(2, len(keys) // parts)])  # batch norm needs two images
    return trainer.strategy.batch_to_device(prepare_batch(pl_module, batch))


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


class BFloat16Mixed(MixedPrecision):
    """Lightning's `bf16-mixed`, which also clips the gradients of fused optimizers.

    Lightning refuses to clip the gradients of fused optimizers in mixed precision. The refusal is necessary only in
    fp16, where a fused optimizer divides the gradients by the loss scale within its step, after clipping. bfloat16 has
    no loss scale.

    Args:
        device: the type of the device, such as `cuda`.
    """

    def __init__(self, device: str) -> None:
        super().__init__(MIXED, device)

    def clip_gradients(self, *args: Any, **kwargs: Any) -> None:
        Precision.clip_gradients(self, *args, **kwargs)


def allow_clipping_of_fused(trainer: L.Trainer) -> None:
    """Let a trainer in `bf16-mixed` clip the gradients of fused optimizers: see `BFloat16Mixed`."""
    plugin = trainer.precision_plugin
    if type(plugin) is MixedPrecision and plugin.precision == MIXED:
        trainer.strategy.precision_plugin = BFloat16Mixed(plugin.device)


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16. Other devices emulate bfloat16 slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
