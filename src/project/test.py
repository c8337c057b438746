"""`python -m project.test RUN_OR_CHECKPOINT [--data.root FOLDER] [--KEY VALUE]`: test a trained model."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cli.verbs", "test")
