"""`python -m project.predict RUN_OR_CHECKPOINT IMAGES... [--out DIR]`: apply a model to files, folders or patterns."""

if __name__ == "__main__":
    import gc

    gc.disable()  # saves a fifth of the time of the imports, which create no garbage; `main` enables it again
    from kit.cli.process import main
    from kit.prediction import predict

    main(predict)
