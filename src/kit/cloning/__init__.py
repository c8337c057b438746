"""`python -m PACKAGE.new`: make a project from this template, or update one to a later version of the template.

A clone is a project that was made from the template. `template` describes the checkout that is cloned. `making` decides
what a clone contains, and writes it. `updating` merges later versions. `command` is the command line. `git` runs git.
Only git and the standard library are needed.
"""
