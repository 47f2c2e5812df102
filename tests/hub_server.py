"""A hub of this machine: as much of the protocol as `huggingface_hub` speaks for our commands.

Repositories are made, listed, committed to (regular files and LFS) and downloaded from by any
revision; private ones need the token. Everything is in memory.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"  # that may write
READ_TOKEN = "hf_read"
REPO = r"(models|datasets)/([\w.-]+/[\w.-]+)"


class HubServer:
    """A server with `url`; `repos` are by type and name, each with its commits and their files."""

    def __init__(self):
        self.repos, self.blobs, self.requests = {}, {}, []
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def create(self, kind, name, private=False):
        repo = SimpleNamespace(private=private, gated=False, commits={}, head=None)
        self.repos[kind, name] = repo
        self.commit(kind, name, {".gitattributes": b""})
        return repo

    def commit(self, kind, name, files, lfs=()):
        repo = self.repos[kind, name]
        commit = hashlib.sha1(f"{name}{len(repo.commits)}".encode()).hexdigest()
        repo.commits[commit] = {**repo.commits.get(repo.head, {}), **files}
        repo.head = commit
        self.blobs |= {hashlib.sha256(files[path]).hexdigest(): path for path in lfs}
        return commit

    def files(self, kind, name):
        repo = self.repos[kind, name]
        return repo.commits[repo.head]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits for an acknowledgement of its head

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(rf"/api/{REPO}/tree/(\S+)", path):
            if files := self._files(*match.groups()):
                self._json(
                    [
                        {"type": "file", "path": p, "size": len(d), "oid": "0"}
                        for p, d in files.items()
                    ]
                )
        elif match := re.fullmatch(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/(\S+?)/(\S+)", path):
            self._resolve("datasets" if match[1] else "models", *match.groups()[1:])
        else:
            self._error(404, f"no such page: {path}")

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        path, body = unquote(urlsplit(self.path).path), self._body()
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            known = self.headers.get("Authorization") == f"Bearer {READ_TOKEN}"
            self._error(403 if known else 401, "no right to write")
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            key = f"{wanted.get('type', 'model')}s", f"{wanted['organization']}/{wanted['name']}"
            if exists := key in self.hub.repos:
                pass
            else:
                self.hub.create(*key, private=wanted.get("visibility") == "private")
            self._json({"url": f"{self.hub.url}/{key[1]}"}, 409 if exists else 200)
        elif re.fullmatch(rf"/api/{REPO}/preupload/main", path):
            files = json.loads(body)["files"]
            lfs = {f["path"] for f in files if f["path"].endswith((".ser", "frames/c/0/0"))}
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"] in lfs else "regular"}
                for f in files
            ]
            self._json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            upload = [
                o | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": upload})
        elif match := re.fullmatch(rf"/api/{REPO}/commit/main", path):
            self._commit(*match.groups(), body)
        else:
            self._error(404, f"no such page: {path}")

    def do_PUT(self):
        body = self._body()
        assert self.path == f"/lfs/{hashlib.sha256(body).hexdigest()}"
        self.hub.blobs[self.path.rpartition("/")[2]] = body
        self._json({})

    def _commit(self, kind, name, body):
        files, lfs = {}, []
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
                lfs.append(value["path"])
        commit = self.hub.commit(kind, name, files, lfs)
        page = f"{self.hub.url}/{'datasets/' * (kind == 'datasets')}{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": page})

    def _files(self, kind, name, revision):
        """Return the files of a revision; None after an error was sent."""
        repo, token = self.hub.repos.get((kind, name)), self.headers.get("Authorization")
        authorized = token in (f"Bearer {TOKEN}", f"Bearer {READ_TOKEN}")
        if token is not None and not authorized:
            return self._error(401, "Invalid credentials in Authorization header")
        if repo is None or (repo.private and not authorized):
            return self._error(404 if authorized else 401, "none", "RepoNotFound")
        if repo.gated:
            return self._error(403, "ask for access", "GatedRepo")
        self.revision = repo.head if revision == "main" else revision
        if self.revision not in repo.commits:
            return self._error(404, "none", "RevisionNotFound")
        return repo.commits[self.revision]

    def _resolve(self, kind, name, revision, path):
        self.hub.requests.append((self.command, path))
        files = self._files(kind, name, revision)
        if files is None:
            return
        if path not in files:
            self._error(404, "none", "EntryNotFound")
            return
        data = files[path]
        lfs = hashlib.sha256(data).hexdigest()
        etag = lfs if lfs in self.hub.blobs else hashlib.sha1(data).hexdigest()
        self._send(200, data, {"X-Repo-Commit": self.revision, "ETag": f'"{etag}"'})

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value, status=200):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status, message, code=""):
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status, data, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
