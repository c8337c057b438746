"""`python -m project.check [--config FILE] [--html FILE] [--json FILE] [--KEY VALUE]`: list the faults of the data."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from kit.cli.process import main
    from kit.cli.verbs import check

    main(check)
