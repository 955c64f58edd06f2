"""What an index page and a wheel will hold."""

import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import pytest
import setuptools

ROOT = pathlib.Path(__file__).parent.parent


def arguments_of_setup(monkeypatch):
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return found


@pytest.fixture
def arguments(monkeypatch):
    monkeypatch.setenv("KERAS_L2L_REPOSITORY", "https://example.org/keras_l2l")
    return arguments_of_setup(monkeypatch)


def test_without_an_address_none_is_made_up(monkeypatch):
    monkeypatch.delenv("KERAS_L2L_REPOSITORY", raising=False)
    found = arguments_of_setup(monkeypatch)
    assert found["long_description"] == (ROOT / "README.md").read_text()
    assert {*found["project_urls"]} == {"Paper"}


def test_links_of_the_long_description_are_absolute(arguments):
    text = arguments["long_description"]
    images = re.findall(r"!\[[^]]*\]\((\S+)\)", text)
    links = re.findall(r"\]\((\S+)\)", text)
    assert len(images) >= 1 and len(links) > 5
    assert all("/raw/main/train/results/" in link for link in images)
    for link in [*links, *arguments["project_urls"].values()]:
        assert link.startswith("https://"), link
        _, is_ours, path = link.partition("/main/")
        assert not is_ours or (ROOT / path).is_file()


def test_a_wheel_is_small_and_typed(arguments, tmp_path):
    (patterns,) = arguments["package_data"].values()
    files = {*(ROOT / "keras_l2l").rglob("*.py")}
    for pattern in patterns:
        found = {*(ROOT / "keras_l2l").glob(pattern)}
        assert found, pattern
        files |= found
    wheel = tmp_path / "wheel.zip"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file)
    assert 100_000 < wheel.stat().st_size < 1_000_000
    assert ROOT / "keras_l2l/py.typed" in files


def test_scripts_run_where_a_wheel_is_installed(arguments, tmp_path):
    places = arguments["package_dir"]
    for package in arguments["packages"]:
        path = package.replace(".", "/")
        source = path
        for name, folder in places.items():
            source = source.replace(name.replace(".", "/"), folder)
        for file in (ROOT / source).glob("*.py"):
            installed = tmp_path / "site" / path / file.name
            installed.parent.mkdir(parents=True, exist_ok=True)
            installed.write_bytes(file.read_bytes())
    weights = "keras_l2l/presets/weights"
    shutil.copytree(ROOT / weights, tmp_path / "site" / weights)
    command = tmp_path / "keras-l2l"
    # A folder of the user, with a package of that name.
    (tmp_path / "train").mkdir()
    (tmp_path / "train/__init__.py").touch()
    command.write_text("from keras_l2l import command; command.main()")
    done = subprocess.run(
        [sys.executable, command, "evaluate", "--task=nothing"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert "flag --task=nothing: value should be one of" in done.stderr
    assert str(ROOT) not in done.stderr


@pytest.mark.slow
def test_scripts_run_as_files(tmp_path):
    # Installed, but not in the repository's root.
    (tmp_path / "keras_l2l").symlink_to(ROOT / "keras_l2l")
    done = subprocess.run(
        [sys.executable, ROOT / "train/meta_train.py", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "--meta_steps" in done.stdout, done.stderr
