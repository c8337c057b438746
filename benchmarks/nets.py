"""Parameters, time and memory of training nets of other libraries on 320x320 pixels.

    python benchmarks/nets.py [--steps 3] [--only NAME ...]

Random weights, batches of 4 images, AdamW, one thread. The time is the processor's for each image, after a first step.
The memory is the highest of the process, in which Python and PyTorch take 500 MB. Each net has a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch

BATCH, SIZE = 4, 320
BOXES = torch.tensor([[4.0, 5.0, 140.0, 150.0], [30.0, 100.0, 170.0, 260.0]])


def default_config(name: str) -> dict:
    """Return the configuration that a class of transformers has by default."""
    import transformers

    config = getattr(transformers, name)().to_dict()
    return {key: value for key, value in config.items() if key not in ("id2label", "label2id")}


def nets() -> dict:
    from kit.zoo import TimmDetector, TorchvisionDetector, TransformersDetector
    from project.detection import CnnFcos

    return {
        "CnnFcos": lambda: CnnFcos(3),
        "fasterrcnn_mobilenet_v3_large_320_fpn": lambda: TorchvisionDetector(3),
        "convnext_atto": lambda: TimmDetector(3, name="convnext_atto"),
        "resnet18": lambda: TimmDetector(3, name="resnet18"),
        "vit_small_patch16_dinov3": lambda: TimmDetector(3, name="vit_small_patch16_dinov3"),
        "RTDetrV2Config": lambda: TransformersDetector(3, config=default_config("RTDetrV2Config")),
    }


def measure(name: str, steps: int) -> None:
    """Print the row of a net."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nets()[name]().to(memory_format=torch.channels_last)
    images, targets = torch.randn(BATCH, 3, SIZE, SIZE), [{"boxes": BOXES, "labels": torch.tensor([1, 3])}] * BATCH
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.process_time()
        losses = net(images, targets)
        sum(loss for key, loss in losses.items() if key != "foreground").backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = (time.process_time() - start) / steps / BATCH
    parameters = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name:40} {parameters:6.1f} M {seconds:6.2f} s {memory:5.1f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", nargs="+")
    options = parser.parse_args()
    names = options.only or list(nets())
    if len(names) == 1:
        measure(names[0], options.steps)
        return
    for name in names:
        subprocess.run([sys.executable, __file__, "--steps", str(options.steps), "--only", name], check=True)


if __name__ == "__main__":
    main()
