"""Read configs and command lines, and explain mistakes in them.

Read in this order: `arguments` searches a command line before it is parsed; `parser` parses configs and command lines
and builds models and data modules from them; `mistakes` explains the parser's errors in one line; `annotations` tells
which values an annotation accepts; `_jsonargparse` patches the parser's library.
"""
