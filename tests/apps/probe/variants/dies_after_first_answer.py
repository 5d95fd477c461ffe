"""Answers its health once, and then the whole server is gone: the worker takes its parent along."""

from __future__ import annotations

import os
import signal


def answered() -> None:
    """Kill the server's main process, unless that is PID 1, and this one."""
    if os.getppid() > 1:
        os.kill(os.getppid(), signal.SIGKILL)
    os._exit(70)
