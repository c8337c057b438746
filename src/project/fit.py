"""`python -m project.fit [--config FILE] [--resume RUN] [--KEY VALUE]`: trains, then tests the best checkpoint."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from kit.cli.process import main
    from kit.cli.verbs import fit

    main(fit)
