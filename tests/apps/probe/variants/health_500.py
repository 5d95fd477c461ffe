"""Answers, but is not well."""

from __future__ import annotations


def health() -> tuple[str, int]:
    """Say why, with the wrong status."""
    return "the cache at 192.0.2.1 does not answer", 500
