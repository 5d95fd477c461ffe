"""Raises in its factory, and says a secret."""

from __future__ import annotations

import os


def starting() -> None:
    """Log and raise what nobody should."""
    print("starting with", os.environ["PROBE_TOKEN"], flush=True)
    raise RuntimeError(f"cannot log in with {os.environ['PROBE_TOKEN']}")
