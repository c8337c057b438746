"""Read runs and checkpoints, whoever made them, without running their code.

Read in this order: `checkpoint` finds and reads a checkpoint; `trust` decides which names in it may be imported and
called; `run_folder` keeps a run inside of its own folder; `foreign_paths` refuses paths in a config that lead out of
it.
"""
