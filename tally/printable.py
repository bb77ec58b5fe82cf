"""Text of strangers on a terminal: what could make it look like something else is escaped."""


def printable(text: str) -> str:
    r"""Return ``text`` with all that is not printable, controls and marks of direction, as ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
