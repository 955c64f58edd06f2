import json

import numpy as np
import pytest

from keras_l2l.utils import files
from keras_l2l.utils.versions import versions


def test_json_is_valid_whatever_the_numbers(tmp_path):
    content = {
        "nan": float("nan"),
        "array": np.array([1.0, np.inf]),
        "scalar": np.float32(0.5),
        "tuple": (1, True, None, "x"),
    }
    files.write_json(tmp_path / "new" / "file.json", content)
    text = (tmp_path / "new" / "file.json").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == {
        "nan": None,
        "array": [1.0, None],
        "scalar": 0.5,
        "tuple": [1, True, None, "x"],
    }


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "file.json", {"object": object()})
    assert list(tmp_path.iterdir()) == []


def test_require_empty(tmp_path):
    assert files.require_empty(tmp_path / "new") == tmp_path / "new"
    assert files.require_empty(tmp_path) == tmp_path
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="must be new or empty"):
            files.require_empty(path)


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "parent" / "folder"
    with files.new_folder(target) as folder:
        (folder / "file").write_text("content")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
    assert (target / "file").read_text() == "content"
    with pytest.raises(FileExistsError, match="must be new or empty"):
        with files.new_folder(target):
            pass
    with pytest.raises(InterruptedError):
        with files.new_folder(tmp_path / "parent" / "other") as folder:
            (folder / "file").write_text("half")
            raise InterruptedError
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_require_new(tmp_path):
    assert files.require_new(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(FileExistsError, match="must be new"):
        files.require_new(tmp_path)


def test_versions_name_what_a_result_depends_on():
    found = versions()
    assert {"python", "numpy", "keras", "tensorflow", "keras_l2l"} < set(found)
    json.dumps(found)


def test_a_new_file_never_replaces_another(tmp_path):
    path = tmp_path / "new" / "file.json"
    assert files.write_new(path, b"first") == path
    for number in (2, 3):
        with pytest.warns(UserWarning, match=f"is in .*file_{number}.json"):
            other = files.write_new(path, b"other")
        assert other == path.with_name(f"file_{number}.json")
        assert other.read_bytes() == b"other"
    assert path.read_bytes() == b"first"
    assert len(list(path.parent.iterdir())) == 3
