"""Runs and checkpoints, whoever made them: read, checked and built without running their code."""
