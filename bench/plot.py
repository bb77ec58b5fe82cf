"""A bar chart as SVG, written by hand: no library for six bars. Pure."""

from collections.abc import Mapping
from html import escape
from typing import Final

_WIDTH: Final = 760
_LABELS: Final = 190
_VALUES: Final = 90
_ROW: Final = 22
_HEAD: Final = 34
_STYLE: Final = "font: 13px sans-serif; fill: #222"
_COLOURS: Final = {"Tally": "#2b6cb0"}
_OTHER: Final = "#a0aec0"


def bars(groups: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Draw groups of horizontal bars, all on one scale.

    Args:
        groups: Title -> name of a bar -> its value, above 0.
        unit: Of the values.
    """
    longest = max(value for group in groups.values() for value in group.values())
    scale = (_WIDTH - _LABELS - _VALUES) / longest
    parts: list[str] = []
    y = 8
    for title, group in groups.items():
        y += 20
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(title)}</text>')
        for name, value in group.items():
            y += _ROW
            colour = _COLOURS.get(name, _OTHER)
            width = max(1.0, value * scale)
            parts.append(f'<text x="{_LABELS - 8}" y="{y}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{_LABELS}" y="{y - 13}" width="{width:.1f}" height="16" fill="{colour}"/>')
            parts.append(f'<text x="{_LABELS + width + 6:.1f}" y="{y}">{value:,.1f} {escape(unit)}</text>')
        y += _HEAD - _ROW
    size = f'width="{_WIDTH}" height="{y + 8}" viewBox="0 0 {_WIDTH} {y + 8}"'
    body = "\n".join(parts)
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{ground}\n<g style="{_STYLE}">\n{body}\n</g>\n</svg>\n'
