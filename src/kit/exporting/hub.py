"""Upload a run to the Hugging Face hub in one commit: card, weights, ONNX file, config and metrics.

The hub's own client finds the token and the hub's address, for example in the variables HF_TOKEN and HF_ENDPOINT.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from kit.checkpoints.run_folder import is_inside
from kit.ground import app
from kit.ground.errors import RunFailed, UserError, import_extra, one_line
from kit.ground.files import MAX_LIST_BYTES, read_bytes
from kit.ground.yaml_files import read_yaml

PACKAGES = ("huggingface_hub", "safetensors")
FILES = ("README.md", "config.yaml", "results.json")  # the files of the run's folder that are uploaded
# Absolute paths, paths with `~` or `..`, and URLs. Names such as `hf-hub:timm/vit_tiny` are none of these.
PATH = re.compile(r"[/~]|\\\\|\\[\w .-]{2,}(\\|$)|[A-Za-z][\w+.-]*:[/\\]|(.*[/\\])?\.\.([/\\]|$)")
REMEDIES = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token",
    403: "take a token that may write there, or another owner",
    404: "check the owner and the name",
}


def connect(name: str) -> Any:
    """Return the hub's client, after the hub has accepted the token. name: the repository, OWNER/NAME.

    Raises:
        UserError: packages are not installed, or the name or the token is invalid.
        RunFailed: the hub cannot be reached.
    """
    for package in PACKAGES:
        import_extra(package, "--to_hub", "hub")
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import validate_repo_id

    if name.count("/") != 1:
        raise UserError(f"--to_hub is {name}, but must be OWNER/NAME")
    if get_token() is None:
        raise UserError(f"the hub needs a token: {REMEDIES[401]}")
    client = HfApi()
    with _replace_exception(name, client):
        validate_repo_id(name)
        client.whoami()
    return client


def read_run(run: Path) -> dict[str, bytes]:
    """Return the contents of `FILES` in a run's folder, by name.

    Texts in the config that match `PATH` keep only their last part.

    Raises:
        UserError: a file is missing, or is a link to a file outside of the folder, which must not be published.
    """
    for name in FILES:
        if not ((run / name).is_file() and is_inside(run / name, run)):
            raise UserError(f"{run} has no file {name}, which `{app.command('fit')}` writes at the end of a run")
    contents = {name: read_bytes(run / name, MAX_LIST_BYTES) for name in FILES}
    config = _remove_folders(read_yaml(run / "config.yaml"))
    return {**contents, "config.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()}


def upload(client: Any, name: str, files: Mapping[str, bytes], tensors: Mapping[str, Any], onnx: Path) -> str:
    """Upload a run in one commit, and return the address of the repository. A new repository is private.

    Args:
        client: the result of `connect`.
        name: the repository, OWNER/NAME.
        files: the result of `read_run`.
        tensors: the state dict of the model. It becomes `model.safetensors`.
        onnx: the exported file. It becomes `model.onnx`.
    """
    from huggingface_hub import CommitOperationAdd
    from safetensors.torch import save

    # Without copies, safetensors refuses tensors that share their memory.
    copies = {key: value.contiguous().clone() for key, value in tensors.items() if isinstance(value, Tensor)}
    contents: dict[str, bytes | Path] = {
        **files,
        "model.safetensors": save(copies, {"format": "pt"}),
        "model.onnx": onnx,
    }
    with _replace_exception(name, client):
        url = client.create_repo(name, private=True, exist_ok=True)
        additions = [CommitOperationAdd(path, content) for path, content in contents.items()]
        client.create_commit(name, additions, commit_message="Upload a run")
    return str(url)


def _remove_folders(value: Any) -> Any:
    """Return the same nested values, but only the last part of texts that match `PATH`: folders may be private."""
    if isinstance(value, dict):
        return {key: _remove_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_remove_folders(item) for item in value]
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) and PATH.match(value) else value


@contextmanager
def _replace_exception(name: str, client: Any) -> Iterator[None]:
    """Replace an exception of the client by one line."""
    try:
        yield
    except Exception as error:  # from the client, from Python, or from the libraries for HTTP and storage
        while type(error) is RuntimeError and isinstance(error.__cause__, Exception):  # an upload failed in a thread
            error = error.__cause__
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = (getattr(error, "server_message", None) or one_line(error)).rstrip(".")
        remedy = f"; {REMEDIES[status]}" if status in REMEDIES else ""
        kind = UserError if remedy or isinstance(error, ValueError) else RunFailed
        message = f"{name} is not uploaded to {client.endpoint}: {reason}{f' ({status})' if status else ''}{remedy}"
        raise kind(message) from None
