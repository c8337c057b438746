"""Read runs and checkpoints, whoever made them, without running their code.

Read in this order: `checkpoint` finds and reads a checkpoint; `trust` decides which names in it may be imported and
called, of other libraries those in `listed_classes`; `run_folder` keeps a run inside of its own folder.
"""
