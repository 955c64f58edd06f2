"""TensorFlow's error messages, without places in a graph."""

import re

# Marks for TensorFlow's own tools, and lines of frames.
_MARKS = re.compile(
    r"\{\{.*?\}\} ?|\[Op:.*?\]|^\s*\[\[.*?\]\]|"
    r"^(Graph execution error:|Detected at node .*| +File \".*|Hint: .*)$",
    re.MULTILINE,
)


def brief(error):
    """Returns the lines of an error's message that are for users."""
    lines = map(str.strip, _MARKS.sub("", str(error)).splitlines())
    return "\n".join(filter(None, lines)) or type(error).__name__
