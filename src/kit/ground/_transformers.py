"""All uses of private names of transformers, tested with transformers 5.24.

tests/kit/ground/test_private_names.py fails if a name is missing.
"""


def use_local_box_counts() -> None:
    """Let each process of a distributed run divide the loss of RF-DETR by the number of its own boxes, from now on.

    transformers adds up the numbers of all processes in each forward pass. A process would wait forever if another
    process made fewer forward passes. The memory guard and the NaN guard change how many passes a process makes.

    The change is not undone, since a net may compute its loss at any later time. Only the losses of RF-DETR and LW-DETR
    call the replaced function.
    """
    from transformers.loss import loss_lw_detr

    loss_lw_detr._is_torch_distributed_initialized = lambda: False
