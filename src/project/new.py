"""`python -m project.new DIR --task TASK [--name NAME]`, or `DIR --update`: create or update a project."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cloning.command", "new")
