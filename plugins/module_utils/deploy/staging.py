# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Staging a release: it is complete, on disk and readable for the app alone before it gets its name."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Accounts, Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import (
    FIX,
    FULL,
    SETUP,
    SPACE,
    DeployError,
    Where,
)
from ansible_collections.flaskops.server.plugins.module_utils.deploy.housekeeping import remove_directory
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.host import links, shared, sizing
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import environment_file
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import StagingError
from ansible_collections.flaskops.server.plugins.module_utils.host.files import write_file
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Builder, Bundle


def stager(builders: Mapping[str, Builder]) -> Callable[[Release, Sequence[Part]], None]:
    """Return what makes a release.

    :param builders: what makes that which a release runs in, by the name of the runtime.
    """
    return lambda release, parts: stage(release, parts, builders)


def stage(release: Release, parts: Sequence[Part], builders: Mapping[str, Builder]) -> None:
    """Make a release that is not on the host yet.

    :raises DeployError: when it cannot be made; what there is of it lies in its staging directory.
    """
    request, host, app = release.request, release.host, release.app
    layout = host.layout
    if not request.components:
        raise DeployError(Where.STAGE, "is not on this host and no source was sent")
    staging = layout.staging(release.id)
    uid, group = _ids(release)
    with _as_deploy_error(layout.home):
        _make_directories(release, group)
        for name, content in request.files.items():
            if name.startswith("serve/"):
                write_file(staging / name, content, 0o640, group)
        artifact = Path(request.artifact) if request.artifact else None
        bundle = Bundle(app, release.id, staging, artifact, request.server_packages)
        builder = builders[request.runtime]
        built = builder.build(bundle)
        _link_shared_paths(release, staging / "app", uid, group)
        _set_ownership(host.accounts, staging / "app", group)
        # Or a link of the repository would have nginx hand out whatever the app puts where it leads to.
        links.give_to_app(staging / "app", layout.shared, uid)
        _set_ownership(host.accounts, staging / "serve", group)
        size = sizing.size(app["workers"], app["threads"], sizing.capacity(app["limits"]))
        variables = {**builder.environment(bundle), **_environment(release, size), **app["env"]}
        write_file(staging / "env", environment_file(variables), 0o640, group)
        write_file(staging / "secrets.env", environment_file(request.secrets), 0o600)
        os.symlink(layout.instance_socket(release.id), staging / "http.sock")
        manifest = {**_manifest(release), **built, "size": size.reason}
        for part in parts:
            manifest |= {key: app[key] for key in part.recorded} | part.stage(release, staging)
        manifest["parts"] = {key: value for part in parts for key, value in part.status(release).items()}
        manifest["files"] = layout.count(staging)
        write_file(staging / "release.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n", 0o640)
        # What the pointer will lead to has to be on disk before it: a power cut must not leave an empty release live.
        host.sync(staging)
        # What is left of one that was damaged.
        remove_directory(layout.release(release.id))
        os.rename(staging, layout.release(release.id))


def _ids(release: Release) -> tuple[int, int]:
    name = release.app["name"]
    try:
        return release.host.accounts.ids(name)
    except KeyError:
        what = f"cannot be staged: the user {name} is missing, the app was not set up on this host"
        raise DeployError(Where.STAGE, what, advice=SETUP) from None


def _make_directories(release: Release, group: int) -> None:
    layout = release.host.layout
    staging = layout.staging(release.id)
    for directory, mode, owner in ((layout.releases, 0o755, 0), (layout.venvs, 0o755, 0), (staging, 0o750, group)):
        # Said, not left to the umask: the app has to get through.
        directory.mkdir(exist_ok=directory != staging)
        release.host.accounts.give(directory, 0, owner)
        directory.chmod(mode)


def _link_shared_paths(release: Release, code: Path, uid: int, gid: int) -> None:
    """Replace the shared directories of the code by links to those that persist."""
    layout, paths = release.host.layout, release.app["shared_paths"]
    live = layout.live_id()
    # One within another is there for the app, and is no link of its own.
    for path in paths:
        if not shared.make(layout.shared, path, uid, gid):
            release.notes.append(
                f"{layout.shared / path} is not a directory, or lies behind a link, and was left as it is: the app"
                " cannot keep files there. Look at it (ls -l), remove the link and deploy again"
            )
    for path in shared.outermost(paths):
        first = live is None or not shared.is_shared(layout.release(live) / "app", path)
        kept = shared.link(code, layout.shared, path, uid, gid, first)
        if kept.names:
            release.notes.append(kept.sentence(layout.shared))


def _set_ownership(accounts: Accounts, tree: Path, group: int) -> None:
    """Give a tree to root, readable for the app's group, writable for nobody else."""
    for _unused, directories, names, place in os.fwalk(tree):
        accounts.give(".", 0, group, place)
        os.chmod(".", 0o750, dir_fd=place)
        for name in (*directories, *names):
            mode = os.lstat(name, dir_fd=place).st_mode
            if not stat.S_ISDIR(mode):
                accounts.give(name, 0, group, place)
            if stat.S_ISREG(mode):
                os.chmod(name, 0o750 if mode & 0o100 else 0o640, dir_fd=place)


def _environment(release: Release, size: sizing.Size) -> dict[str, str]:
    return {
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "FLASK_APP": release.app["wsgi"] or "",
        "FLASK_RELEASE": release.id,
        "WEB_CONCURRENCY": str(size.workers),
        "WEB_THREADS": str(size.threads),
    }


def _manifest(release: Release) -> dict[str, Any]:
    """Return what release.json holds of every release, whatever its parts; a rollback goes by it."""
    request, app = release.request, release.app
    return {
        "app": app["name"],
        "release": release.id,
        "source": request.source,
        "components": request.components,
        "wsgi": app["wsgi"],
        "server": app["server"],
        "runtime": request.runtime,
        "drain_seconds": request.drain_seconds,
        "staged": release.host.clock.stamp(),
        "by": request.by,
    }


@contextlib.contextmanager
def _as_deploy_error(home: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a release is staged into a :class:`DeployError`.

    :param home: the app's directory, to report the free space on its disk.
    """
    try:
        yield
    except StagingError as error:
        advice = SPACE if str(error).startswith("the disk is full") else FIX
        raise DeployError(Where.STAGE, error.what, error.lines, advice) from error
    except OSError as error:
        if error.errno not in FULL:
            raise DeployError(Where.STAGE, f"cannot be staged: {error}") from error
        free = shutil.disk_usage(home).free // 2**20
        what = f"cannot be staged: the disk is full: {home} has {free} MB free"
        raise DeployError(Where.STAGE, what, advice=SPACE) from error
