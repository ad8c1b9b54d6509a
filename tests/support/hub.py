"""A local stand-in of the Hugging Face Hub's API, as far as its library uses it to push and fetch files of a model."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

TOKEN = "hf_standin"
EMPTY = "0" * 40


class Hub(ThreadingHTTPServer):
    """Repositories in memory; `url` is its endpoint.

    repos: USER/NAME -> branch -> commit; commits: commit -> path -> bytes; calls: (method, path) of every request
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos, self.commits, self.objects, self.private, self.calls = {}, {}, {}, set(), []

    def commit(self, repo, branch, files):
        """Add files to a branch. returns: the commit"""
        before = self.commits.get(self.repos[repo].get(branch), {})
        now = {**before, **files}
        name = hashlib.sha1(repr(sorted(now.items())).encode() + str(len(self.commits)).encode()).hexdigest()
        self.commits[name] = now
        self.repos[repo][branch] = name
        return name

    def files(self, repo, branch="main"):
        """Path -> bytes at the end of a branch."""
        return self.commits[self.repos[repo][branch]]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *words):
        pass

    # answers

    def answer(self, status=200, body=None, **headers):
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def lacking(self, what):
        self.answer(404, {"error": what}, X_Error_Code=what, X_Error_Message=what)

    def read(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    # requests

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = self.start()
        if parts[:2] == ["api", "whoami-v2"]:
            return self.answer(200, {"name": "someone", "type": "user"}) if self.known else self.answer(401)
        if len(parts) >= 5 and parts[2] == "resolve":
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self.lacking("EntryNotFound")

    def resolve(self, repo, revision, path):
        if repo not in self.server.repos or (repo in self.server.private and not self.known):
            return self.lacking("RepoNotFound")
        commit = self.server.repos[repo].get(revision, revision)
        if commit not in self.server.commits:
            return self.lacking("RevisionNotFound")
        data = self.server.commits[commit].get(path)
        if data is None:
            return self.answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        return self.answer(200, data, X_Repo_Commit=commit, ETag=f'"{hashlib.sha1(data).hexdigest()}"')

    def do_PUT(self):
        oid = self.start()[-1]
        self.server.objects[oid] = self.read()
        self.answer()

    def do_POST(self):
        parts = self.start()
        body = self.read()
        if parts[:2] == ["api", "validate-yaml"]:
            return self.answer(200, {"errors": [], "warnings": []})
        if not self.known:
            return self.answer(401, {"error": "Invalid username or password."})
        if parts[:3] == ["api", "repos", "create"]:
            return self.create(json.loads(body))
        if parts[-4:-1] == ["info", "lfs", "objects"]:
            return self.batch(json.loads(body))
        repo, what, revision = "/".join(parts[2:4]), parts[4], unquote(parts[5])
        if repo not in self.server.repos:
            return self.lacking("RepoNotFound")
        return getattr(self, what)(repo, revision, body)

    def start(self):
        self.server.calls.append((self.command, self.path))
        return urlsplit(self.path).path.strip("/").split("/")

    def create(self, asked):
        repo = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        if repo.split("/")[0] != "someone":
            return self.answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        there = repo in self.server.repos
        self.server.commits[EMPTY] = {}
        self.server.repos.setdefault(repo, {"main": EMPTY})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repo)
        return self.answer(409 if there else 200, {"url": f"{self.server.url}/{repo}"})

    def branch(self, repo, revision, body):
        there = revision in self.server.repos[repo]
        self.server.repos[repo].setdefault(revision, self.server.repos[repo]["main"])
        return self.answer(409 if there else 200)

    def preupload(self, repo, revision, body):
        if revision not in self.server.repos[repo]:
            return self.lacking("RevisionNotFound")
        files = [{"path": item["path"], "shouldIgnore": False,
                  "uploadMode": "lfs" if item["path"].endswith(".safetensors") else "regular"}
                 for item in json.loads(body)["files"]]
        return self.answer(200, {"files": files})

    def batch(self, asked):
        objects = [{**item, "actions": {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}}
                   for item in asked["objects"]]
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, repo, revision, body):
        files = {}
        for line in body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        name = self.server.commit(repo, revision, files)
        url = f"{self.server.url}/{repo}/commit/{name}"
        return self.answer(200, {"success": True, "commitOid": name, "commitUrl": url})


@contextlib.contextmanager
def running_hub():
    """A Hub that answers while the block runs."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join(10)


def lead_to(monkeypatch, hub, folder, token=TOKEN):
    """Let the Hub's library in this process talk to `hub`, with a cache and token of its own in `folder`."""
    point_to(monkeypatch, hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(folder / "tokens"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)


def point_to(monkeypatch, url):
    """Let the library believe that the Hub is there, as HF_ENDPOINT does before it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def environment_of(hub, folder):
    """The same for another process."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
