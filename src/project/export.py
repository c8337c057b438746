"""`python -m project.export RUN_OR_CHECKPOINT [--format onnx] [--out FILE]`: a model for programs without this project."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from project.exporting import export
    from project.process import main

    main(export)
