"""The ground floor: functions that every other room uses and that know nothing of tasks or training.

Read in this order: `errors` (exceptions that end a program with one line) and `faults` (problems in the data that a
check reports); `files` and `yaml_files` (reading and writing within limits) and `checkpoint_limits` (the same for
checkpoints of unknown origin); `out_of_memory` (computing in parts if memory runs out), `host_memory` (copies of the
state of a run), `terminal` (escaping control characters), `threads` (reading many files at once), `drawing` (pictures)
and `app` (the name of the application that uses this library).
"""
