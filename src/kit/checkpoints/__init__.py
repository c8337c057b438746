"""Read runs and checkpoints of unknown origin without running their code.

Read in this order: `checkpoint` finds and reads a checkpoint. `trust` decides which names in a checkpoint may be
imported and called. `listed_classes` lists the allowed classes of other libraries. `run_folder` ensures that a run
writes only in its folder.
"""
