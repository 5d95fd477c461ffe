"""Needs PROBE_SLOW_SECONDS (default: 30) before it answers anything; then all is well."""

from __future__ import annotations

import os
import time


def starting() -> None:
    """Warm up for a long time."""
    time.sleep(float(os.environ.get("PROBE_SLOW_SECONDS", "30")))
