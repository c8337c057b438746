"""The library under a project: it trains, guards, shows and exports any task.

Shapes in docstrings: B batch, C channels, H height, W width, K classes, N samples (or boxes of an image).
`Float[B C H W]` is a tensor of floats of that shape. Height comes before width.
Images are uint8, 0 to 255, until they are on the device, where they become floats with normalised channels.
"""

import os

# Limit the busy waiting of torch's threads (GNU OpenMP), before torch is imported. By default, idle threads keep
# cores busy. The workers that load images, and other runs on the same machine, need these cores.
os.environ.setdefault("GOMP_SPINCOUNT", "100000")
