"""A stand-in for the Hugging Face hub: the part of its HTTP interface with which files are uploaded."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

TOKEN = "hf_right"


class Hub:
    """The state of the hub.

    url: its address.
    visible: each repository by name, and whether it is `private`, as the client asked for it.
    commits: the files of each commit, by path.
    stored: the large files, by their SHA-256.
    refusals: a status and a message for each path of a request that is refused, by the beginning of the path.
    """

    def __init__(self) -> None:
        self.url = ""
        self.visible: dict[str, str] = {}
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.stored: dict[str, bytes] = {}
        self.refusals: dict[str, tuple[int, str]] = {}

    def answer(self, path: str, body: bytes, token: str) -> tuple[int, dict]:
        """Return the status and the content of the answer to a request."""
        for start, (status, message) in self.refusals.items():
            if path.startswith(start):
                return status, {"error": message}
        if path.startswith("/storage/"):
            self.stored[path.removeprefix("/storage/")] = body
            assert sha256(body).hexdigest() == path.removeprefix("/storage/")
            return 200, {}
        if token != TOKEN:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/whoami-v2":
            return 200, {"name": "ada", "type": "user"}
        if path == "/api/validate-yaml":
            return 200, {}
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            existed = name in self.visible
            self.visible.setdefault(name, wanted.get("visibility", "public"))
            return 409 if existed else 200, {"url": f"{self.url}/{name}"}
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [file["path"] for file in json.loads(body)["files"]]
            large = (".safetensors", ".onnx")
            modes = ["lfs" if file.endswith(large) else "regular" for file in files]
            answers = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in zip(files, modes, strict=True)]
            return (200, {"files": answers}) if match[1] in self.visible else (404, {"error": "Repository not found"})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for entry in objects:
                entry["actions"] = {"upload": {"href": f"{self.url}/storage/{entry['oid']}"}}
            return 200, {"transfer": "basic", "objects": objects}
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.stored[value["oid"]]
            self.commits.append((match[1], files))
            return 200, {"commitOid": "0" * 40, "commitUrl": f"{self.url}/{match[1]}/commit/{'0' * 40}"}
        return 404, {"error": f"unknown {path}"}


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub, and let the client of this process use it and its token, without Xet, which the hub does not have."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, content = hub.answer(self.path.partition("?")[0], body, token)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_) -> None:
            pass

    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", TOKEN)
        yield hub
    server.shutdown()
    server.server_close()
