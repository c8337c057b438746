"""`python -m project.predict RUN_OR_CHECKPOINT IMAGES... [--out DIR]`: apply a model to files and folders."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.prediction", "predict")
