"""The library under a project: what trains, guards, shows and exports any task.

Shapes in docstrings: B batch, C channels, H height, W width, K classes, N samples (or boxes of an image).
`Float[B C H W]` is a tensor of floats of that shape. Height comes before width.
Images are uint8, 0 to 255, until they are on the device; there they become floats, normalised channel by channel.
"""

import os

# Before torch is imported: how long its threads (GNU OpenMP) wait busily for their next piece of work. As long as they
# do by default, they take the cores from the workers that load images, and from a second run on the same machine.
os.environ.setdefault("GOMP_SPINCOUNT", "100000")
