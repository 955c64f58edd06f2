"""Files of presets on the Hugging Face Hub and on Kaggle.

Their clients, `huggingface_hub` and `kagglehub`, are imported on first use.
They keep the downloads in their caches, and find the user's token.
"""

import contextlib
import http
import pathlib
import re
import textwrap

from keras_l2l.presets.named_arrays import PresetError

_READ, _WRITE = "read", "write"
_PART = r"\w[\w.-]*"


class _HuggingFace:
    package = "huggingface_hub"
    forms = {_READ: "hf://{user}/{name}", _WRITE: "hf://[{user}/]{name}"}
    patterns = {
        _READ: rf"{_PART}/{_PART}",
        _WRITE: rf"({_PART}/)?{_PART}",
    }
    example = "hf://ada/my_optimizer"
    login = "`hf auth login` or the variable HF_TOKEN"

    def __init__(self):
        with _required(self):
            import huggingface_hub
            from huggingface_hub.errors import HfHubHTTPError
        self._api = huggingface_hub.HfApi(library_name="keras_l2l")
        # Those of its HTTP library, which depends on the version.
        http_errors = HfHubHTTPError.__bases__
        self.errors = (OSError, ValueError, *http_errors)

    def paths(self, handle, names):
        # All of one commit.
        folder = self._api.snapshot_download(handle, allow_patterns=names)
        return {name: pathlib.Path(folder) / name for name in names}

    def path(self, handle, name):
        return pathlib.Path(self._api.hf_hub_download(handle, name))

    def create(self, handle):
        return self._api.create_repo(handle, exist_ok=True).repo_id

    def upload(self, handle, folder, stale):
        self._api.upload_folder(
            repo_id=handle, folder_path=folder, delete_patterns=[*stale]
        )


class _Kaggle:
    package = "kagglehub"
    forms = {
        _READ: "kaggle://{user}/{model}/keras/{variation}[/{version}]",
        _WRITE: "kaggle://{user}/{model}/keras/{variation}",
    }
    patterns = {
        _READ: rf"{_PART}/{_PART}/keras/{_PART}(/\d+)?",
        _WRITE: rf"{_PART}/{_PART}/keras/{_PART}",
    }
    example = "kaggle://ada/my_optimizer/keras/digits"
    login = "`kagglehub.login()` or the variable KAGGLE_API_TOKEN"

    def __init__(self):
        with _required(self):
            import kagglehub
            from kagglehub import exceptions
        self._hub = kagglehub
        self.errors = (
            *(OSError, ValueError, exceptions.BackendError),
            *(exceptions.DataCorruptionError, exceptions.UnauthenticatedError),
        )

    def paths(self, handle, names):
        # One by one: the model of a wrong handle may hold gigabytes.
        return {name: self.path(handle, name) for name in names}

    def path(self, handle, name):
        return pathlib.Path(self._hub.model_download(handle, name))

    def create(self, handle):
        return handle  # Its upload creates it.

    def upload(self, handle, folder, stale):
        # No file of an earlier version is in a new one.
        self._hub.model_upload(handle, str(folder))


_HUBS = {"hf": _HuggingFace, "kaggle": _Kaggle}


def forms(use=_READ):
    """Returns what URIs look like, for error messages."""
    return " or ".join(kind.forms[use] for kind in _HUBS.values())


def is_uri(name):
    """Returns whether a name is that of a preset on a hub."""
    schemes = tuple(f"{scheme}://" for scheme in _HUBS)
    return isinstance(name, str) and name.startswith(schemes)


def require_uri(uri):
    """Raises `PresetError` if it is not the URI of an upload."""
    _parsed(uri, _WRITE)


def read(uri, names, optional=()):
    """Returns the contents of files on a hub, a dict from names to bytes.

    Args:
        uri: String.
        names: List of the files that must be there.
        optional: Names of further files, read if they are there.

    Raises:
        PresetError: if the URI is wrong, or a file cannot be read.
        ImportError: if the hub's client is not installed.
    """
    with _connected(uri, _READ) as (hub, handle):
        paths = hub.paths(handle, names) if names else {}
        for name in optional:
            with contextlib.suppress(*hub.errors):
                paths[name] = hub.path(handle, name)
    for name, path in paths.items():
        if not path.is_file():
            raise PresetError(
                f"A preset must hold {', '.join(names)}. Received: {uri}, "
                f"which has no {name}. This is not a preset of keras_l2l."
            )
    return {name: path.read_bytes() for name, path in paths.items()}


def create(uri):
    """Creates the place of a preset; returns its URI with the user's name.

    Raises:
        PresetError: if the URI is wrong, or the user may not.
        ImportError: if the hub's client is not installed.
    """
    with _connected(uri, _WRITE) as (hub, handle):
        return uri.removesuffix(handle) + hub.create(handle)


def upload(uri, folder, stale=()):
    """Uploads a folder to a place that `create` made.

    Args:
        uri: String, as `create` returns it.
        folder: Path of the folder.
        stale: Names of files of an earlier upload that are deleted if the
            folder has none of that name.

    Raises:
        PresetError: if the user may not write there.
    """
    with _connected(uri, _WRITE) as (hub, handle):
        hub.upload(handle, folder, stale)


def _parsed(uri, use):
    """Returns the kind of a hub and the handle in a URI."""
    if not is_uri(uri):
        raise PresetError(
            f"A preset on a hub must be {forms(use)}. Received: {uri!r}."
        )
    scheme, _, handle = uri.partition("://")
    kind = _HUBS[scheme]
    if not re.fullmatch(kind.patterns[use], handle):
        raise _bad_uri(kind, uri, use)
    return kind, handle


@contextlib.contextmanager
def _connected(uri, use):
    """Yields a hub and the handle in a URI, and explains the hub's errors."""
    kind, handle = _parsed(uri, use)
    hub = kind()
    try:
        yield hub, handle
    except hub.errors as error:
        status = _status(error)
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise _bad_uri(kind, uri, use, f" ({error})") from error
        raise PresetError(_explanation(hub, uri, use, status, error)) from error


def _bad_uri(kind, uri, use, why=""):
    return PresetError(
        f"The URI must have the form {kind.forms[use]}, as "
        f"{kind.example!r}. Received: {uri!r}{why}."
    )


def _status(error):
    """Returns the HTTP status behind an error, `None` if there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        status = status or getattr(error, "error_code", None)
        if status:
            return status
        error = error.__cause__
    return None


def _explanation(hub, uri, use, status, error):
    if use == _WRITE and status == 401:
        return (
            f"To write {uri}, you must be logged in. Received: HTTP 401, "
            f"Unauthorized. Log in with {hub.login}."
        )
    if status in (401, 403, 404):
        needed = {
            _READ: "it must exist, and you must be allowed to read it",
            _WRITE: "you must be allowed to write there",
        }[use]
        return (
            f"To {use} {uri}, {needed}. Received: HTTP {status}, "
            f"{http.HTTPStatus(status).phrase}. Check the name, and log in "
            f"with {hub.login}."
        )
    received = textwrap.shorten(f"{type(error).__name__}: {error}", 250)
    return (
        f"To {use} {uri}, the hub must answer. Received: "
        f"{received.rstrip('.')}. Check the connection, and try again."
    )


@contextlib.contextmanager
def _required(hub):
    """Tells how to install a client that cannot be imported."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{hub.forms[_READ]} requires the `{hub.package}` package. Please "
            f"install with `pip install {hub.package}`. Received: {error}."
        ) from error
