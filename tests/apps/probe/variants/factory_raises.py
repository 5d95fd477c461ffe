"""Raises in its factory."""

from __future__ import annotations


def starting() -> None:
    """Miss a setting, as factories do."""
    raise RuntimeError("PROBE_DATABASE_URL is not set")
