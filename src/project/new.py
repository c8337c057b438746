"""`python -m project.new DIR --task TASK [--name NAME]`: a project of its own, of the tasks that one needs."""

if __name__ == "__main__":
    from kit.cli.process import main
    from kit.cloning.command import new

    main(new)
