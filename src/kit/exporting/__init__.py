"""Export a trained model to a file that other programs read without this project and without PyTorch.

Read in this order: `protocol` describes what a task provides; `graph` puts preprocessing and net into one module;
`file_formats` writes and opens files; `agreement` compares a file's outputs with PyTorch's, on the images that
`example_images` reads; `command` is the verb `export`.
"""

from kit.exporting.command import export

__all__ = ["export"]
