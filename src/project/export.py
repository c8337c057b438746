"""`python -m project.export RUN_OR_CHECKPOINT [--format FORMAT] [--out FILE]`: export a model for other programs."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.exporting", "export")
