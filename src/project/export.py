"""`python -m project.export RUN_OR_CHECKPOINT [--out FILE]`: export a model to ONNX."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.exporting", "export")
