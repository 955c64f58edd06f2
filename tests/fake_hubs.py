"""The Hugging Face Hub and Kaggle, as far as their clients ask for them.

One HTTP server on a local port plays both. It keeps repositories in memory.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

TOKEN = "hf_right"
_VARIATION = "{ownerSlug}/{modelSlug}/keras/{instanceSlug}/"


class Hubs:
    """A running server.

    Attributes:
        url: String, its address.
        repos: Dict from names of repositories to dicts from names of files to
            bytes. On Kaggle a version is a repository, `a/m/keras/v/1`.
        requests: List of strings, what clients have asked for.
        private: Set of repositories that nobody may read without the token.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        """Makes it as new."""
        self.repos, self.requests, self.private = {}, [], set()
        self._blobs = {}

    def answer(self, method, path, body, token):
        """Returns the status and the content of a response, and headers."""
        self.requests.append(f"{method} {path}")
        for pattern, handler in _ROUTES.items():
            match = re.fullmatch(pattern, f"{method} {path}")
            if match:
                return handler(self, *match.groups(), body=body, token=token)
        return 404, {"error": f"no {method} {path}"}, {}

    # The Hugging Face Hub.

    def _readable(self, repo, token):
        known = repo in self.repos
        if not known or (repo in self.private and token != TOKEN):
            # As the hub does: it does not tell which repositories exist.
            headers = {"X-Error-Code": "RepoNotFound"}
            return (404 if token else 401), {"error": "not found"}, headers
        return None

    def _commit_of(self, repo):
        state = json.dumps(
            {
                n: hashlib.sha1(c).hexdigest()
                for n, c in self.repos[repo].items()
            }
        )
        return hashlib.sha1(state.encode()).hexdigest()

    def info(self, repo, body, token):
        return self._readable(repo, token) or (
            200,
            {
                "id": repo,
                "modelId": repo,
                "sha": self._commit_of(repo),
                "tags": [],
                "siblings": [{"rfilename": n} for n in self.repos[repo]],
            },
            {},
        )

    def tree(self, repo, body, token):
        files = [
            {
                "type": "file",
                "path": name,
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
            }
            for name, content in self.repos[repo].items()
        ]
        return 200, files, {}

    def file(self, repo, name, body, token):
        refused = self._readable(repo, token)
        if refused:
            return refused
        content = self.repos[repo].get(name)
        if content is None:
            return 404, {}, {"X-Error-Code": "EntryNotFound"}
        etag = hashlib.sha1(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": self._commit_of(repo)}
        return 200, content, headers

    def create(self, body, token):
        if token != TOKEN:
            return 401, {"error": "Invalid username or password."}, {}
        request = json.loads(body)
        user = request["organization"] or "ada"
        if user != "ada":
            return 403, {"error": f"no right to create in {user}"}, {}
        repo = f"{user}/{request['name']}"
        known = repo in self.repos
        self.repos.setdefault(repo, {})
        return (409 if known else 200), {"url": f"{self.url}/{repo}"}, {}

    def validate(self, body, token):
        return 200, {"errors": [], "warnings": []}, {}

    def preupload(self, repo, body, token):
        files = [
            {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        return 200, {"files": files}, {}

    def commit(self, repo, body, token):
        if token != TOKEN:
            return 403, {"error": "no right to write"}, {}
        for line in body.splitlines():
            line = json.loads(line)
            if line["key"] == "file":
                file = line["value"]
                content = base64.b64decode(file["content"])
                self.repos[repo][file["path"]] = content
            if line["key"] == "deletedFile":
                del self.repos[repo][line["value"]["path"]]
        commit = self._commit_of(repo)
        url = f"{self.url}/{repo}/commit/{commit}"
        return 200, {"commitUrl": url, "commitOid": commit}, {}

    # Kaggle.

    def _versions(self, request):
        start = "{ownerSlug}/{modelSlug}/keras/{instanceSlug}/".format(
            **request
        )
        return [name for name in self.repos if name.startswith(start)]

    def kaggle(self, method, body, token):
        request = json.loads(body)
        if token != TOKEN and not method.startswith(("Download", "GetModel")):
            return 401, {"code": 401, "message": "Unauthenticated"}, {}
        return getattr(self, f"kaggle_{method}")(request)

    def kaggle_GetModel(self, request):
        return 404, {"code": 404, "message": "not found"}, {}

    def kaggle_CreateModel(self, request):
        if request["ownerSlug"] != "ada":
            return 403, {"code": 403, "message": "Permission denied"}, {}
        return 200, {"id": 1}, {}

    def kaggle_GetModelInstance(self, request):
        versions = self._versions(request)
        if not versions:
            return 404, {"code": 404, "message": "not found"}, {}
        return 200, {"id": 1, "versionNumber": len(versions)}, {}

    def kaggle_DownloadModelInstanceVersion(self, request):
        name = (_VARIATION + "{versionNumber}").format(**request)
        files = self.repos.get(name, {})
        if request["path"] not in files:
            return 404, {"code": 404, "message": "not found"}, {}
        return 200, files[request["path"]], {}

    def kaggle_StartBlobUpload(self, request):
        number = str(len(self._blobs))
        self._blobs[number] = request["name"], None
        url = f"{self.url}/blob/{number}"
        return 200, {"token": number, "createUrl": url}, {}

    def blob(self, number, body, token):
        self._blobs[number] = self._blobs[number][0], body
        return 200, {}, {}

    def kaggle_CreateModelInstance(self, request):
        if self._versions({**request, **request["body"]}):
            return 200, {"error": "there already", "errorCode": 409}, {}
        return self._add_version({**request, **request["body"]})

    def kaggle_CreateModelInstanceVersion(self, request):
        return self._add_version({**request, **request["body"]})

    def _add_version(self, request):
        name = _VARIATION.format(**request)
        files = dict(self._blobs[f["token"]] for f in request["files"])
        self.repos[f"{name}{len(self._versions(request)) + 1}"] = files
        return 200, {"id": 1}, {}


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = {
    rf"GET /api/models/{_REPO}(?:/revision/\w+)?": Hubs.info,
    rf"GET /api/models/{_REPO}/tree/\w+": Hubs.tree,
    rf"(?:GET|HEAD) /{_REPO}/resolve/\w+/(.+)": Hubs.file,
    r"POST /api/repos/create": Hubs.create,
    r"POST /api/validate-yaml": Hubs.validate,
    rf"POST /api/models/{_REPO}/preupload/main": Hubs.preupload,
    rf"POST /api/models/{_REPO}/commit/main": Hubs.commit,
    r"POST /api/v1/[\w.]+/(\w+)": Hubs.kaggle,
    r"PUT /blob/(\d+)": Hubs.blob,
}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        path = urllib.parse.urlsplit(self.path).path
        status, content, headers = self.server.hubs.answer(
            self.command, path, body, token
        )
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def running():
    """Yields the `Hubs` of a server that runs meanwhile."""
    hubs = Hubs()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hubs, server.daemon_threads = hubs, True
    hubs.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hubs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
