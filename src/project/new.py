"""`python -m project.new FOLDER --task TASK [--name NAME]`, or `FOLDER --update`: create or update a project."""

if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cloning.command", "new")
