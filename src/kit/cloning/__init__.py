"""`python -m PACKAGE.new`: a project of its own out of this template, and the template's later fixes for it.

`template.py` is the checkout that is cloned, `making.py` decides what a clone gets and writes it, `updating.py` merges
later versions, `command.py` is the command line. All of it needs git and the standard library alone.
"""
