"""`python -m project.predict RUN_OR_CHECKPOINT IMAGES... [--out DIR]`: apply a model to files, folders or patterns."""

if __name__ == "__main__":
    import gc

    gc.disable()  # importing makes a million objects and no garbage: a fifth of its time; `main` turns it on again
    from kit.cli.process import main
    from kit.prediction import predict

    main(predict)
