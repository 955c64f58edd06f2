"""The presets of this package as a table, for notebooks and the docs."""

import html
import typing

_COLUMNS = ("preset", "use it for", "steps", "cost", "where it loses")


class PresetTable(dict):
    """Dict from the name of each preset to its description, shown as a table.

    Args:
        cards: Dict from names to cards, each a dict with `description`,
            `horizon`, `use_for`, `cost` and `loses`.
        default: String, the name of the default.
    """

    def __init__(
        self, cards: dict[str, dict[str, typing.Any]], default: str
    ) -> None:
        super().__init__({n: card["description"] for n, card in cards.items()})
        # The default first.
        names = sorted(cards, key=lambda name: name != default)
        self._rows = [
            (
                name + (", the default" if name == default else ""),
                cards[name]["use_for"],
                f"{cards[name]['horizon']:,}",
                cards[name]["cost"],
                cards[name]["loses"],
            )
            for name in names
        ]

    def to_markdown(self) -> str:
        """Returns the table in Markdown, a string."""
        rows = []
        for name, *others in self._rows:
            name, comma, rest = name.partition(",")
            rows.append((f"`{name}`{comma}{rest}", *others))
        lines = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def __repr__(self):
        blocks = [
            "\n".join(
                [
                    name,
                    *(
                        f"  {title}: {cell}"
                        for title, cell in zip(_COLUMNS[1:], cells, strict=True)
                    ),
                ]
            )
            for name, *cells in self._rows
        ]
        return "\n".join(blocks)

    def _repr_html_(self):
        def row(cells, tag):
            cells = [f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells]
            return f"<tr>{''.join(cells)}</tr>"

        body = [row(cells, "td") for cells in self._rows]
        return f"<table>{row(_COLUMNS, 'th')}{''.join(body)}</table>"
