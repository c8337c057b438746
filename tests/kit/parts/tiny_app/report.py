if __name__ == "__main__":
    from kit.cli.start import start

    start("kit.cli.reporting", "report")
