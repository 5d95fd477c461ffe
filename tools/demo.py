#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The demo: one container that behaves as a VM, and the shop on it. `make demo` calls this.

tools/demo.py up [ARGUMENT...]   the host, the playbook site, and a request through nginx; arguments go to Ansible
tools/demo.py host               the host alone: started, and reachable over SSH as inventories/demo says
tools/demo.py clean              remove all that `up` made
"""

from __future__ import annotations

import argparse
import http.client
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time

import testhosts
from testhosts import ROOT, ToolError, output, run, say

NAME = "flaskops-demo"
IMAGE = "debian13"
USER = "debian"

#: The demo's state: keys, the SSH configuration, and whether the image was made for the demo.
STATE = ROOT / ".cache" / "demo"
MADE_IMAGE = STATE / "made-image"

FIRST_PORT = 8443

PREPARE_LOGIN = f"""
id {USER} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/{USER}
install -d -o {USER} -g {USER} -m 0700 /home/{USER}/.ssh
cat >/home/{USER}/.ssh/authorized_keys
chown {USER}: /home/{USER}/.ssh/authorized_keys
"""


def free_port(first: int) -> int:
    """Return the first free TCP port of this machine, starting at `first`."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ToolError(f"No free port between {first} and {first + 99}.")


def published_port() -> int:
    """Return the port of this machine that is published for the host's HTTPS."""
    return int(output("docker", "port", NAME, "443/tcp").splitlines()[0].rpartition(":")[2])


def ensure_host() -> None:
    """Start the host if it is not running, and make it reachable over SSH under its name.

    :raises ToolError: when something is missing on this machine, or the host does not boot.
    """
    testhosts.ensure_engine()
    STATE.mkdir(parents=True, exist_ok=True)
    key = STATE / "key"
    if not testhosts.host_state(NAME):
        if testhosts.ensure_image(IMAGE):
            MADE_IMAGE.touch()
        say(f"Starting the host {NAME} ...")
        testhosts.start_host(NAME, IMAGE, f"--publish=127.0.0.1:{free_port(FIRST_PORT)}:443")
    else:
        testhosts.start_host(NAME, IMAGE)
    if not key.exists():
        if shutil.which("ssh-keygen") is None and testhosts.can_apt_install():
            testhosts.apt_install("openssh-client")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f", str(key), what="ssh-keygen")
    login = ["docker", "exec", "--interactive", NAME, "sh", "-euc", PREPARE_LOGIN]
    subprocess.run(login, input=(STATE / "key.pub").read_bytes(), check=True)
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = output("docker", "inspect", "--format", template, NAME)
    host_key = output("docker", "exec", NAME, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
    known_hosts = STATE / "known_hosts"
    known_hosts.write_text(f"{NAME} {host_key}\n")
    (STATE / "ssh_config").write_text(
        f"Host {NAME}\n"
        f"  HostName {address}\n"
        f"  HostKeyAlias {NAME}\n"
        f"  User {USER}\n"
        f'  IdentityFile "{key}"\n'
        f"  IdentitiesOnly yes\n"
        f'  UserKnownHostsFile "{known_hosts}"\n'
        f"  StrictHostKeyChecking yes\n"
        f"  ServerAliveInterval 5\n"
        f"  ServerAliveCountMax 2\n"
    )


def fetch(port: int) -> str:
    """Return the page's title, requested through nginx over HTTPS.

    :raises ToolError: when the answer is not a page.
    """
    # The certificate is self-signed: this machine cannot verify it.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        page = response.read().decode(errors="replace")
    except OSError as error:
        raise ToolError(f"https://localhost:{port}/ does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ToolError(f"https://localhost:{port}/ answers {response.status}:\n{page[:500]}")
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    return " ".join(title[1].split()) if title else f"{len(page)} bytes"


def live_release() -> str:
    """Return the id of the release that visitors get; empty if there is none yet."""
    return output("docker", "exec", NAME, "readlink", "/srv/shop/live").rpartition("/")[2]


def up(arguments: list[str]) -> int:
    """Start the demo and show its address; return the exit code of Ansible if that fails."""
    started = time.monotonic()
    ensure_host()
    before = live_release()
    command = ["ansible-playbook", "--inventory", "inventories/demo", "flaskops.server.site", *arguments]
    played = subprocess.run(command, cwd=ROOT, check=False).returncode
    if played != 0:
        return played
    port = published_port()
    title = fetch(port)
    release = live_release()
    is_live = "was live before and still is" if release == before else "is live"
    say(
        f"\nThe shop {is_live}: release {release}, on {NAME}, a Debian 13 with systemd."
        f" That took {time.monotonic() - started:.0f} s.\n"
        f'  https://localhost:{port}/   "{title}" (its certificate is self-signed: the browser asks)\n'
        f"\n"
        f"What to try next:\n"
        f"  a redeploy         edit examples/shop/shop/templates/index.html, then: make deploy\n"
        f"  a rollback         make rollback; what is live, and what was: make status\n"
        f"  a broken release   echo 'import nothing' >>examples/shop/shop/__init__.py; make deploy\n"
        f"                     (the release before keeps serving; undo it with: git checkout examples/shop)\n"
        f"  once more          make demo (changes nothing); no more: make demo-clean"
    )
    return 0


def clean() -> None:
    """Remove the host, its keys, and the image if it was made for the demo and nothing else uses it."""
    if testhosts.engine_answers():
        testhosts.remove_host(NAME)
        if MADE_IMAGE.exists():
            testhosts.remove_images(IMAGE)
    if STATE.exists():
        shutil.rmtree(STATE)


def main() -> int:
    """Run one subcommand; return 1 if something is missing on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=["up", "host", "there", "clean"])
    parsed, rest = parser.parse_known_args()
    try:
        if parsed.command == "up":
            return up(rest)
        if parsed.command == "there" and not testhosts.host_state(NAME):
            raise ToolError("The demo is not set up yet. Run: make demo")
        if parsed.command == "clean":
            clean()
        else:
            ensure_host()
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
