"""Functions that every other package of this library may use. They do not depend on tasks or training.

- `errors`: exceptions that end a program with a one-line message.
- `unexpected`: descriptions of unexpected errors.
- `signals`: ending a process at Ctrl-C, SIGTERM or SIGHUP.
- `ranges`: types of numbers in a range.
- `faults`: problems in the data that the command `check` reports.
- `files`, `yaml_files`, `checkpoint_limits`: reading files of unknown origin within limits, and writing files.
- `memory`: computing in parts if memory runs out, and copies of a run's state.
- `terminal`: text without control characters, and lines that are drawn again and again.
- `threads`: reading many files in parallel.
- `drawing`, `html`: pictures and pages.
- `app`: the name of the application that uses this library.
- `_lightning`, `_torch`, `_transformers`: uses of these libraries' private names.
"""
