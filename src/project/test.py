"""`python -m project.test RUN_OR_CHECKPOINT [--data.root FOLDER] [--KEY VALUE]`: test a trained model."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from kit.cli.process import main
    from kit.cli.verbs import test

    main(test)
