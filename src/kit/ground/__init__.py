"""Functions that every other package of this library may use. They do not depend on tasks or training.

- `errors`: exceptions that end a program with a one-line message.
- `unexpected`: how an unexpected error is shown.
- `ranges`: types of numbers in a range.
- `faults`: problems in the data that the command `check` reports.
- `files`, `yaml_files`, `checkpoint_limits`: read files of unknown origin within limits.
- `memory`: compute in parts if memory runs out; copies of a run's state.
- `terminal`: escape control characters.
- `threads`: read many files in parallel.
- `drawing`, `html`: pictures and pages.
- `app`: the name of the application that uses this library.
- `_lightning`, `_torch`: all uses of private names.
"""
