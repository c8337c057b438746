"""Export a trained model to an ONNX file that other programs read without this project and without PyTorch.

Read in this order: `kit.task.ExportedModule` is the module that a task provides; `graph` writes preprocessing and net
as one ONNX file, and runs it; `agreement` compares a file's outputs with PyTorch's; `command` is the verb `export`;
`hub` uploads a run to the Hugging Face hub. `model_card` writes the page that describes a run there; `fit` calls it.
"""

from kit.exporting.command import export

__all__ = ["export"]
