"""Read runs and checkpoints of unknown origin without running their code.

Read in this order: `checkpoint` finds and reads a checkpoint; `trust` decides which names in it may be imported and
called; `listed_classes` lists such names of other libraries, and `own_code` finds the owner's own; `run_folder`
ensures that a run writes only in its folder.
"""
