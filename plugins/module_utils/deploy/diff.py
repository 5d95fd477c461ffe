# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `--diff` shows of a release: the rendered files and the settings, before and after. Secrets are never in it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.flaskops.server.plugins.module_utils.host.causes import hide
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import read_environment

if TYPE_CHECKING:
    from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Request
    from ansible_collections.flaskops.server.plugins.module_utils.deploy.walk import Deploy
    from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout

#: Variables that staging computes. Some differ with every release; they are shown when the app sets them itself.
_COMPUTED = frozenset(
    "PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE LANG FLASK_APP FLASK_RELEASE WEB_CONCURRENCY WEB_THREADS"
    " PATH VIRTUAL_ENV PYTHONPATH HOME GUNICORN_CMD_ARGS".split()
)


def read_live(layout: Layout, request: Request) -> dict[str, str]:
    """Return the texts of the live release, by path: read before a step, which installs other units."""
    live = layout.live_id()
    found = _read(layout, live, request.app["env"] if request.files else {}) if live else {}
    for path in request.files:
        if path.startswith("units/"):
            with contextlib.suppress(OSError, ValueError):
                found[path] = (layout.unit_dir / Path(path).name).read_text(encoding="utf-8")
    return found


def differences(deploy: Deploy, before: dict[str, str], release: str) -> list[dict[str, str]]:
    """Return the texts that differ between the live release and another one, as Ansible shows them.

    :param before: what :func:`read_live` returned.
    """
    layout, request = deploy.layout, deploy.request
    live = layout.live_id()
    after = {**request.files, "env": _lines(request.app["env"])} if request.files else _read(layout, release, {})
    secrets = {*request.secrets.values(), *_secrets(layout, live), *_secrets(layout, release)}
    shown = []
    for path in sorted({*before, *after}):
        old, new = before.get(path, ""), after.get(path, "")
        if old != new:
            shown.append(_entry(f"{request.app['name']}: {path}", hide(old, secrets), hide(new, secrets)))
    of_live = layout.manifest(live).get("components", {}).get("secrets", "none")
    of_new = (request.components or layout.manifest(release).get("components", {})).get("secrets", "none")
    if of_live != of_new:
        shown.append(_entry(f"{request.app['name']}: secrets", "", "changed, values are not shown\n"))
    return shown


def _entry(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def _read(layout: Layout, release: str, env: dict[str, str]) -> dict[str, str]:
    home = layout.release(release)
    found = {}
    for path in sorted((home / "serve").rglob("*")):
        # A link, or what is no text, was not rendered.
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(home))] = path.read_text(encoding="utf-8")
    with contextlib.suppress(OSError, ValueError):
        settings = read_environment(home / "env")
        found["env"] = _lines({name: value for name, value in settings.items() if name not in _COMPUTED or name in env})
    return found


def _lines(settings: dict[str, str]) -> str:
    # Not as in the file, where a secret that a setting repeats is escaped and would not be found.
    return "".join(f"{name}={settings[name]}\n" for name in sorted(settings))


def _secrets(layout: Layout, release: str | None) -> set[str]:
    with contextlib.suppress(OSError, ValueError):
        return set(read_environment(layout.release(release or "-") / "secrets.env").values())
    return set()
