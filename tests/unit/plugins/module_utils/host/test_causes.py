# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person needs to see of an app's output: told from what Gunicorn 27 really wrote."""

from __future__ import annotations

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.causes import cause, hide, indented

VENV = "/srv/shop/releases/abc/venv/lib/python3.11/site-packages"
NOISE = ("gunicorn.errors.HaltServer",)
BEGIN = "Traceback (most recent call last):"

START = """\
[2026-01-30 12:00:00 +0000] [40] [INFO] Starting gunicorn 27.0.1
[2026-01-30 12:00:00 +0000] [40] [INFO] Listening at: unix:/run/shop/abc/http.sock (40)
[2026-01-30 12:00:00 +0000] [40] [INFO] Using worker: gthread
[2026-01-30 12:00:00 +0000] [41] [INFO] Booting worker with pid: 41
"""
IN_GUNICORN = f"""\
  File "{VENV}/gunicorn/arbiter.py", line 752, in spawn_worker
    worker.init_process()
  File "{VENV}/gunicorn/workers/base.py", line 138, in init_process
    self.load_wsgi()
  File "{VENV}/gunicorn/app/base.py", line 67, in wsgi
    self.callable = self.load()
                    ^^^^^^^^^^^
  File "{VENV}/gunicorn/util.py", line 420, in import_app
    mod = importlib.import_module(module)
          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""
RAISED = f"[2026-01-30 12:00:00 +0000] [41] [ERROR] Exception in worker process\n{BEGIN}\n{IN_GUNICORN}"
IMPORT_ERROR = """\
  File "/srv/shop/releases/abc/app/shop.py", line 1, in <module>
    import no_such_module
ModuleNotFoundError: No module named 'no_such_module'
"""
SYNTAX_ERROR = """\
  File "/srv/shop/releases/abc/app/shop.py", line 1
    def broken(:
               ^
SyntaxError: invalid syntax
"""
LINK = "\nThe above exception was the direct cause of the following exception:\n\n"
FACTORY = f"""\
[2026-01-30 12:00:00 +0000] [41] [ERROR] Exception in worker process
{BEGIN}
  File "/srv/shop/releases/abc/app/shop.py", line 3, in create_app
    raise KeyError("DATABASE_URL")
KeyError: 'DATABASE_URL'
{LINK}{BEGIN}
{IN_GUNICORN}  File "/srv/shop/releases/abc/app/shop.py", line 5, in create_app
    raise RuntimeError("set DATABASE_URL") from error
RuntimeError: set DATABASE_URL
set DATABASE_URL
[2026-01-30 12:00:00 +0000] [41] [INFO] Worker exiting (pid: 41)
"""
EXITS = """\
No module named 'no_such_module'
[2026-01-30 12:00:00 +0000] [41] [INFO] Worker exiting (pid: 41)
[2026-01-30 12:00:01 +0000] [40] [ERROR] Worker (pid:41) exited with code 3.
"""
ENDS = """\
[2026-01-30 12:00:01 +0000] [40] [ERROR] Shutting down: Master
[2026-01-30 12:00:01 +0000] [40] [ERROR] Reason: Worker failed to boot.
"""
# Where several workers fail, Gunicorn's master trips over the second.
TRIPS = f"""\
{BEGIN}
  File "{VENV}/gunicorn/arbiter.py", line 270, in run
    handler()
  File "{VENV}/gunicorn/arbiter.py", line 683, in reap_workers
    raise HaltServer(reason, self.WORKER_BOOT_ERROR)
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>

During handling of the above exception, another exception occurred:

{BEGIN}
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "{VENV}/gunicorn/arbiter.py", line 683, in reap_workers
    raise HaltServer(reason, self.WORKER_BOOT_ERROR)
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>
"""
NO_CALLABLE = "Failed to find attribute 'app' in 'shop'.\n[2026-01-30 12:00:00 +0000] [40] [ERROR] Worker (pid:41) exited with code 4.\n"
CUT = [BEGIN, "  ..."]


@pytest.mark.parametrize(
    ("journal", "last"),
    [
        (START + RAISED + IMPORT_ERROR + EXITS + ENDS, IMPORT_ERROR),
        (START + RAISED + IMPORT_ERROR + EXITS + TRIPS, IMPORT_ERROR),
        (START + RAISED + SYNTAX_ERROR + EXITS + TRIPS, SYNTAX_ERROR),
        (START + FACTORY + EXITS + ENDS, "RuntimeError: set DATABASE_URL\n"),
        # The traceback that a killed worker did not end hides no other.
        (START + RAISED + RAISED + IMPORT_ERROR, IMPORT_ERROR),
    ],
)
def test_the_end_of_the_last_traceback_that_tells_something(journal: str, last: str) -> None:
    found = cause(journal.splitlines(), noise=NOISE)
    assert len(found) == 12 and found[:2] == CUT
    assert found[-last.count("\n") :] == last.splitlines()


@pytest.mark.parametrize(
    ("journal", "most", "found"),
    [
        (START + NO_CALLABLE + TRIPS, 2, NO_CALLABLE.splitlines()),
        (START, 1, START.splitlines()[-1:]),
        ("a\n\n  \nb\n", 12, ["a", "b"]),
        ("", 12, []),
        (f"x\n{BEGIN}\n{IMPORT_ERROR}after\n", 12, [BEGIN, *IMPORT_ERROR.splitlines()]),
        # The journal ends in the middle.
        (f"{BEGIN}\n  File", 12, [BEGIN, "  File"]),
    ],
)
def test_the_last_lines_otherwise(journal: str, most: int, found: list[str]) -> None:
    assert cause(journal.splitlines(), most, NOISE) == found


@pytest.mark.parametrize(
    ("secrets", "shown"),
    [
        (["hunter2-hunter2"], "a ******** b hunter2 c"),
        (["hunter2", "hunter2-hunter2"], "a ******** b ******** c"),
        (["a", "b c", ""], "a hunter2-hunter2 b hunter2 c"),
        ([], "a hunter2-hunter2 b hunter2 c"),
    ],
)
def test_secrets_are_hidden(secrets: list[str], shown: str) -> None:
    assert hide("a hunter2-hunter2 b hunter2 c", secrets) == shown


def test_secrets_of_several_lines_are_hidden_in_every_shape() -> None:
    secret = "first-line\nsecond-line\n"
    shown = hide(f"{secret}|{indented(secret.splitlines())}|{secret!r}", [secret])
    assert "first" not in shown and "second" not in shown


def test_indented() -> None:
    assert indented(["a", "", "b"]) == "    a\n    \n    b"
