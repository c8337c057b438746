"""Export a trained model to an ONNX file that other programs read without this project and without PyTorch.

Read in this order: `kit.task.ExportedModule` is the module that a task provides; `graph` writes preprocessing and net
as one ONNX file, and runs it; `agreement` compares a file's outputs with PyTorch's; `command` is the verb `export`;
`hub` uploads a run to the Hugging Face hub. `model_card` is for `fit`: it writes the page that describes the run there.
"""

from kit.exporting.command import export

__all__ = ["export"]
