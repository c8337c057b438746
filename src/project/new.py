"""`python -m project.new DIR --task TASK [--name NAME]`: create a project for one or more tasks."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cloning.command", "new")
