"""Read configs and command lines, and explain mistakes in them.

Read in this order: `arguments` splits a command line before it is parsed; `parser` parses configs and command lines
and builds models and data modules from them; `mistakes` explains in one line why the parser refuses a command line;
`suggestions` says what was probably meant; `annotations` finds the annotation of each key, and the values that it
accepts; `_jsonargparse` patches the parser's library.
"""
