"""`python -m project.new DIR --task TASK [--name NAME]`: create a project with the given tasks."""

if __name__ == "__main__":
    from kit.cli.process import main
    from kit.cloning.command import new

    main(new)
