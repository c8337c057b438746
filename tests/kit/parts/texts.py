"""Annotations as some programs write them."""


def as_text(content):
    """Numbers as text, in lists and dicts."""
    if isinstance(content, dict):
        return {key: as_text(value) for key, value in content.items()}
    if isinstance(content, list):
        return [as_text(value) for value in content]
    return str(content) if isinstance(content, (int, float)) else content
