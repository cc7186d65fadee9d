"""What is raised of a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not fit the model."""


def one_line(text: str, limit: int = 160) -> str:
    """The text on one line that any terminal can show, shortened."""
    text = " ".join(text[: 4 * limit].split())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."
