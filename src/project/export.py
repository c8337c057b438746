"""`python -m project.export RUN_OR_CHECKPOINT [--format FORMAT] [--out FILE]`: for other programs."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from project.exporting import export
    from project.process import main

    main(export)
