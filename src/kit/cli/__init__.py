"""The command line. A verb is one of its commands, such as `fit`.

`start` prints a verb's page of help, or imports the verb and runs it. `process` runs a verb and ends the process.
`verbs` defines `fit`, `test` and `check`. `command_line` reads configs and arguments, and builds the trainer, the model
and the data. `callbacks` puts a run's callbacks in order.
"""
