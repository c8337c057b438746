"""A project of its own out of this template, and the template's later fixes for it. The standard library alone."""
