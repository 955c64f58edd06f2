"""Hooks of the docs' build: files from other folders, and Keras' docstrings."""

import pathlib
import re
import textwrap

import griffe
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
FIGURES = "train/results/"
NOTEBOOKS = "examples/"


def on_files(files, config):
    """Adds the changelog, the figures of the results and the notebooks."""
    paths = [(ROOT / "CHANGELOG.md", "changelog.md")]
    for folder, pattern in (
        (FIGURES, "*.png"),
        (FIGURES, "*.svg"),
        (NOTEBOOKS, "*.ipynb"),
    ):
        paths += [
            (path, path.relative_to(ROOT).as_posix())
            for path in sorted((ROOT / folder).rglob(pattern))
        ]
    for path, uri in paths:
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes links to these files relative to docs/, the site's root."""
    for folder in (FIGURES, NOTEBOOKS):
        markdown = markdown.replace(f"../{folder}", folder)
    return markdown


class KerasDocstrings(griffe.Extension):
    """Makes `Example:`, as Keras has it, Google's `Examples:`, indented."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:\n((?:.+\n?)+)",
                lambda found: f"Examples:\n{textwrap.indent(found[1], '    ')}",
                obj.docstring.value,
                flags=re.MULTILINE,
            )
