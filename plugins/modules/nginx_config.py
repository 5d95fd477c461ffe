#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change nginx's configuration as a whole, or not at all."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.nginx.certificates import (
    SelfSigned,
    made_certificates,
    plan_certificates,
    plan_modes,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.files import Change, File, NginxError, plan_files
from ansible_collections.flaskops.server.plugins.module_utils.nginx.install import (
    candidate_of,
    install,
    locked,
    overlay,
    remove_leftovers,
    try_configuration,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.reload import (
    errors_since,
    is_final,
    wait_for_new_workers,
    workers_of,
)
from ansible_collections.flaskops.server.plugins.module_utils.nginx.stale import plan_stale, told, without_catch_all
from ansible_collections.flaskops.server.plugins.module_utils.nginx.text import explain, for_host, version_of

#: In a directory of root's own: in /run/lock everybody could hold it for ever.
LOCK = Path("/run/flaskops/nginx.lock")

#: Is there from the moment before files change until nginx has taken them; gone after a reboot, as it should.
PENDING = Path("/run/flaskops-nginx.reload")

#: How long nginx has to start new workers, in seconds.
RELOAD_TIMEOUT = 30


def main() -> None:
    text: dict[str, Any] = {"type": "str"}
    flag: dict[str, Any] = {"type": "bool", "default": False}
    path = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "checked", "reloaded"], "default": "present"},
            "root": {"type": "path", "default": "/etc/nginx"},
            "templates": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"src": path, "path": path, "vars": {"type": "dict", "default": {}}, "backup": flag},
            },
            "sites": {"type": "list", "elements": "raw", "default": []},
            "site_template": text,
            "self_signed_days": {"type": "int", "default": 825},
            "remove_links": {"type": "dict", "default": {}},
            # The files below `root` (no content: remove it), and the certificates (no names: for the host's own name).
            "_files": {"type": "list", "elements": "dict", "default": []},
            "_certificates": {"type": "list", "elements": "dict", "default": []},
            "service": {"type": "str", "default": "nginx"},
            "error_log": {"type": "path", "default": "/var/log/nginx/error.log"},
        },
        supports_check_mode=True,
    )
    # What is made here is for nginx and its people to read, however closed the caller's umask is.
    os.umask(0o022)
    try:
        if module.params["state"] == "reloaded":
            module.exit_json(**reloaded(module))
        with locked(LOCK):
            result = present(module)
        module.exit_json(**result)
    except (NginxError, OSError) as error:
        module.fail_json(msg=str(error))


def present(module: AnsibleModule) -> dict[str, Any]:
    """Bring the files to what they should be.

    :raises NginxError: where nothing was changed, with the reason.
    """
    root = Path(os.path.realpath(module.params["root"]))
    nginx = module.get_bin_path("nginx")
    openssl = module.get_bin_path("openssl")
    if not module.check_mode:
        if nginx is None or not root.is_dir():
            raise NginxError(f"nginx is not installed on this host (no program nginx, or no {root})")
        if openssl is None and module.params["_certificates"]:
            raise NginxError("openssl is not installed on this host, and makes the self-signed certificates")
        remove_leftovers(root)
    certificates = _certificates(module)
    files = without_catch_all(root, _files(module, nginx))
    stale = plan_stale(root, files)
    # What gives way goes first: a run that is killed in between leaves no two default servers.
    changes = [one.change for one in stale] + plan_files(root, files) + plan_modes(root, certificates)
    missing = plan_certificates(root, certificates, openssl)
    pending = PENDING.exists()
    result: dict[str, Any] = {
        "changed": bool(changes or missing or pending),
        "installed": nginx is not None,
        "tested": False,
        "reload_pending": pending,
    }
    if changes or missing:
        if nginx and root.is_dir() and (openssl or not missing):
            changes = _change(module, root, nginx, openssl, changes, missing)
            result["tested"] = True
        else:
            changes += [
                Change(one.certificate, shown=("", f"self-signed certificate for {', '.join(one.names)}\n"))
                for one in missing
            ]
    for one in stale:
        module.warn(told(one, root, module.check_mode))
    result["files"] = sorted(str(root / change.path) for change in changes)
    result["diff"] = [
        {
            "before_header": str(root / change.path),
            "after_header": str(root / change.path),
            "before": change.shown[0],
            "after": change.shown[1],
        }
        for change in changes
        if change.shown[0] != change.shown[1]
    ]
    return result


def _change(
    module: AnsibleModule, root: Path, nginx: str, openssl: str | None, changes: list[Change], missing: list[SelfSigned]
) -> list[Change]:
    """Try the changes in a copy and, but in check mode, put them in place. Returns them, with the new certificates."""
    with candidate_of(root) as candidate:
        overlay(candidate, changes)
        if missing:
            # The certificates come first: they disturb nobody, and the sites need them.
            changes = made_certificates(candidate, missing, str(openssl)) + changes
        accepted, words = try_configuration(nginx, candidate / "nginx.conf")
        message = explain(words, str(candidate), str(root))
    if not accepted:
        message = f"nginx refuses the new configuration, nothing was changed and the old one goes on:\n{message}"
        if module.check_mode and "No such file or directory" in message:
            module.warn(f"A file may be missing only because this is check mode.\n{message}")
        else:
            raise NginxError(message)
    for line in message.splitlines():
        if "[warn]" in line:
            module.warn(line)
    if not module.check_mode:
        _install(root, nginx, changes)
    return changes


def _install(root: Path, nginx: str, changes: list[Change]) -> None:
    """Put the changes in place, remembering that a reload is due."""

    def verify() -> str | None:
        accepted, words = try_configuration(nginx, root / "nginx.conf")
        return (
            None
            if accepted
            else f"nginx refuses the new configuration once it is in place, it was taken back:\n{words.strip()}"
        )

    was_pending = PENDING.exists()
    PENDING.touch()
    try:
        install(root, changes, verify)
    except BaseException:
        if not was_pending:
            PENDING.unlink(missing_ok=True)
        raise


def _files(module: AnsibleModule, nginx: str | None) -> list[File]:
    version = _version(module, nginx)
    ipv6 = Path("/proc/net/if_inet6").exists()
    return [
        File(
            entry["path"],
            for_host(entry["content"], version, ipv6) if "content" in entry else None,
            owned=entry.get("owned", False),
            backup=entry.get("backup", False),
            link=entry.get("link"),
        )
        for entry in module.params["_files"]
    ]


def _version(module: AnsibleModule, nginx: str | None) -> tuple[int, ...] | None:
    """Return the version of the host's nginx, else of the one that it would install, else None."""
    if nginx:
        return version_of(module.run_command([nginx, "-v"])[2])
    apt = module.get_bin_path("apt-cache")
    if apt:
        words = module.run_command([apt, "policy", "nginx"], environ_update={"LC_ALL": "C"})[1]
        return version_of(words.partition("Candidate:")[2].partition("\n")[0])
    return None


def _certificates(module: AnsibleModule) -> list[SelfSigned]:
    own = tuple(dict.fromkeys([platform.node().lower() or "localhost", "localhost"]))
    days = module.params["self_signed_days"]
    return [
        SelfSigned(given["certificate"], given["key"], tuple(given["names"]) or own, days)
        for given in module.params["_certificates"]
    ]


def reloaded(module: AnsibleModule) -> dict[str, Any]:
    """Have the running nginx take the configuration, and wait until it has.

    :raises NginxError: where it did not, with its reason.
    """
    service = module.params["service"]
    if module.check_mode:
        return {"changed": True}
    master = _master(service)
    if not master:
        _systemctl("start", service)
    else:
        log = Path(module.params["error_log"])
        size = log.stat().st_size if log.is_file() else 0
        old = workers_of(master)
        _systemctl("reload", service)
        if not wait_for_new_workers(master, old, RELOAD_TIMEOUT, lambda: is_final(errors_since(log, size))):
            said = "\n".join(errors_since(log, size)[-5:]) or f"{log} says nothing"
            raise NginxError(
                "nginx was asked to take the new configuration and goes on with the old one; the next run asks again.\n"
                + said
            )
    PENDING.unlink(missing_ok=True)
    return {"changed": True}


def _master(service: str) -> int:
    """Return the process id of the running nginx, 0 where none runs."""
    done = subprocess.run(
        ["systemctl", "show", "--property=MainPID", "--value", service], capture_output=True, text=True, check=False
    )
    return int(done.stdout.strip() or 0)


def _systemctl(verb: str, service: str) -> None:
    done = subprocess.run(["systemctl", verb, service], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        journal = ["journalctl", "--unit", service, "--lines", "10", "--no-pager", "--output", "cat"]
        lines = subprocess.run(journal, capture_output=True, text=True, check=False).stdout
        raise NginxError(f"systemctl {verb} {service} failed: {done.stderr.strip()}\n{lines.strip()}")


if __name__ == "__main__":
    main()
