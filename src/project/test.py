"""`python -m project.test RUN_OR_CHECKPOINT [--data.root FOLDER] [--KEY VALUE]`: tests it, from the checkpoint alone."""

from project.cli import main, test

if __name__ == "__main__":
    main(test)
