"""Is not well as long as there is a file ``instance/ill``."""

from __future__ import annotations

from pathlib import Path


def health() -> tuple[str, int]:
    """Look for the file."""
    return ("there is instance/ill", 500) if Path("instance/ill").exists() else ("ok", 200)
