"""The command line: each verb, and how its process ends."""
