"""How many samples of a batch fit into memory at a time."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.memory import garbage_collection_cuda

from kit.ground.out_of_memory import DoesNotFit, memory_needed, sample_does_not_fit
from kit.safeguards.memory.parts import count, split
from kit.safeguards.messages import log_text

EVALUATION = {
    "validation_step": "validation",
    "test_step": "the test",
    "predict_step": "prediction",
    "evaluate": "evaluation",  # of a `kit.task.Task`, in all of them
}
STEPS = {"training_step": "training", **EVALUATION}
NONE = 2**62  # where no size has been found, as processes compare theirs


class Sizes:
    """found: for a step of `STEPS`, the most samples at a time; nothing where whole batches have fitted so far."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self.device = torch.device("cpu")
        self._said: dict[str, int] = {}

    def parts(self, step: str, batch: Any) -> int:
        """Into how many a batch is to be divided."""
        size = self.found.get(step)
        return 1 if size is None else max(1, -(-count(batch) // size))

    def make_smaller(self, step: str, batch: Any, said: str) -> None:
        """After running out of memory, of which torch has said so much, halves what is computed at a time.

        Raises:
            DoesNotFit: it is one sample already, or cannot be divided.
        """
        try:
            largest = -(-count(batch) // self.parts(step, batch))
            if largest > 1:
                split(batch, 2)
        except TypeError as error:
            raise DoesNotFit(f"{memory_needed(said)}, and {error}: lower data.batch_size") from None
        if largest <= 1:
            raise sample_does_not_fit(batch, said)
        self.found[step] = -(-largest // 2)
        garbage_collection_cuda()

    def say(self, step: str, how: str, trainer: L.Trainer) -> None:
        """Once for each size, which stands in `how`."""
        if self._said.get(step) != self.found[step]:
            self._said[step] = self.found[step]
            process = f" of process {trainer.global_rank}" if trainer.world_size > 1 else ""
            said = f"memory_guard: out of memory; {STEPS[step]}{process} goes on {how.format(self.found[step])}"
            print(said, flush=True)  # each process
            if trainer.is_global_zero:
                log_text(trainer, "memory_guard", said)

    def agree(self, strategy: Strategy) -> None:
        """All processes take the smallest size that one of them has found; a process alone keeps its own."""
        own = [self.found.get(step, NONE) for step in STEPS]
        least = strategy.reduce(torch.tensor(own, device=self.device), reduce_op="min").tolist()
        self._keep({step: size for step, size in zip(STEPS, least, strict=True) if size < NONE})

    def state_dict(self) -> dict[str, Any]:
        return {"found": dict(self.found), "memory": self._memory()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of a device with other memory they say nothing."""
        self._keep(state["found"] if state["memory"] == self._memory() else {})

    def _keep(self, found: dict[str, int]) -> None:
        self.found, self._said = dict(found), dict(found)

    def _memory(self) -> int:
        """The device's, in bytes; 0 of a processor, where nothing like it is raised."""
        return torch.cuda.get_device_properties(self.device).total_memory if self.device.type == "cuda" else 0
