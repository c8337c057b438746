"""`python -m project.export RUN_OR_CHECKPOINT [--format FORMAT] [--out FILE]`: export a model for other programs."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from kit.cli.process import main
    from kit.exporting import export

    main(export)
