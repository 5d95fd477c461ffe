#!/usr/bin/env python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A container engine and the systemd images that the demo and the tests run on.

    tools/testhosts.py engine            make sure that `docker info` answers
    tools/testhosts.py images [NAME...]  make sure that the images exist (debian12, debian13, and each with -ready)
    tools/testhosts.py python            make .cache/images/python.tar, a base image for containers inside of test hosts
    tools/testhosts.py clone             write .env.yml, which tells Molecule this clone's hosts from those of others
    tools/testhosts.py remove            remove this clone's test hosts, and the images that no container uses

They do nothing if there is nothing to do. The images are cached and made again only when their recipe changes: the
files in tools/testhost and tools/testhost-ready, and what apt is told about proxies on this machine. Of `-ready`
images the distribution's packages that most scenarios install are a part.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "tools" / "testhost"
IMAGE = "flaskops-test"
LABEL = "flaskops.recipe"
SUITES = {"debian12": "bookworm", "debian13": "trixie"}
READY = "-ready"
READY_RECIPE = ROOT / "tools" / "testhost-ready"
NAMES = [*SUITES, *(name + READY for name in SUITES)]
#: What .env.yml, which Molecule reads, and the names of this clone's test hosts have in common.
CLONE = hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]

#: Seconds to wait for a registry to serve the base image, for dockerd to answer, and for a host to boot.
PULL_TIMEOUT = 60
ENGINE_TIMEOUT = 60
BOOT_TIMEOUT = 60

#: The settings of this machine's apt that the images need to reach the mirrors.
APT_SETTINGS = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
)

#: What systemd needs of the engine to be PID 1, and the certificates that were added to this machine's trust store.
#: molecule/shared/create.yml says the same.
HOST_OPTIONS = (
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--tmpfs=/run:mode=755,exec",
    "--tmpfs=/tmp:mode=1777,exec",
    "--volume=/usr/local/share/ca-certificates:/usr/local/share/ca-certificates:ro",
)


class ToolError(Exception):
    """Something is missing on this machine; the message says what to do."""


def say(message: str) -> None:
    """Print a message without buffering."""
    print(message, flush=True)


def succeeds(*command: str, timeout: float | None = None) -> bool:
    """Run a command silently; True if it succeeds within the timeout (seconds)."""
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def output(*command: str) -> str:
    """Return the standard output of a command, stripped; empty if the command is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def run(*command: str, what: str) -> None:
    """Run a command; show its output only if it fails.

    :param what: what the command is for, for the message.
    :raises ToolError: when it fails, with the end of its output.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise ToolError(f"{what} failed ({' '.join(command[:3])} ..., exit {done.returncode}):\n{tail}")


def can_apt_install() -> bool:
    """Whether this is root on Debian or Ubuntu."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def apt_install(*packages: str) -> None:
    """Install Debian packages; update the package lists only if the first attempt fails."""
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    command = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
    if not succeeds(*command):
        run("apt-get", "update", what="apt-get update")
        run(*command, what=f"installing {' '.join(packages)}")


def engine_answers() -> bool:
    """Whether the docker command reaches a running engine."""
    return succeeds("docker", "info", "--format", "{{.ServerVersion}}", timeout=30) and bool(
        output("docker", "info", "--format", "{{.ServerVersion}}")
    )


def ensure_engine() -> None:
    """Make sure that a container engine answers.

    :raises ToolError: when none answers and none can be installed here, or when it does not start.
    """
    if engine_answers():
        return
    if not can_apt_install():
        raise ToolError(
            "No container engine answers `docker info`: install Docker (on Debian and Ubuntu: docker.io), start it,"
            " and make sure that your user may use it."
        )
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        say("Installing docker.io ...")
        apt_install("docker.io", "iptables")
    if Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "docker", what="starting docker")
        process, log = None, None
    else:
        log = Path("/var/log/dockerd.log")
        say(f"Starting dockerd (log: {log}) ...")
        with log.open("ab") as stream:
            process = subprocess.Popen(
                ["dockerd"], stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
            )
    deadline = time.monotonic() + ENGINE_TIMEOUT
    while not engine_answers():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            tail = log.read_text(errors="replace") if log else output("journalctl", "-u", "docker", "-n", "30")
            raise ToolError("The container engine does not answer. Its log ends with:\n" + tail[-3000:])
        time.sleep(0.5)


def apt_settings() -> str:
    """Return the settings of this machine's apt for proxies and dates, as the text of an apt.conf."""
    lines = []
    for line in output("apt-config", "dump", *APT_SETTINGS).splitlines():
        name, _unused, value = line.partition(" ")
        if name in APT_SETTINGS and value.strip('";'):
            lines.append(line)
    known = {line.split()[0] for line in lines}
    for scheme in ("http", "https"):
        setting = f"Acquire::{scheme}::Proxy"
        proxy = os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY")
        if proxy and setting not in known:
            lines.append(f'{setting} "{proxy}";')
    return "".join(f"{line}\n" for line in sorted(lines))


def recipe_id(name: str) -> str:
    """Return the checksum of everything that determines the content of an image."""
    digest = hashlib.sha256(f"{name}\n{apt_settings()}".encode())
    for path in sorted([*RECIPE.iterdir(), *(READY_RECIPE.iterdir() if name.endswith(READY) else [])]):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def image_is_current(name: str) -> bool:
    """Whether the image exists and was made from this recipe."""
    template = '{{index .Config.Labels "' + LABEL + '"}}'
    return output("docker", "image", "inspect", "--format", template, f"{IMAGE}:{name}") == recipe_id(name)


def base_image(name: str, scratch: Path) -> str:
    """Get or make Debian's base image; return the name that the engine knows it by.

    :param scratch: a directory for what is needed on the way.
    :raises ToolError: when no registry answers and mmdebstrap cannot be used.
    """
    official = f"debian:{name.removeprefix('debian')}"
    if succeeds("docker", "image", "inspect", official):
        return official
    if succeeds("docker", "pull", "--quiet", official, timeout=PULL_TIMEOUT):
        return official
    if shutil.which("mmdebstrap") is None or not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        if not can_apt_install():
            raise ToolError(
                f"No container registry serves {official}, and mmdebstrap is not installed to make it:"
                " install mmdebstrap and debian-archive-keyring, or pull the image."
            )
        say("Installing mmdebstrap ...")
        apt_install("mmdebstrap", "debian-archive-keyring")
    sources = scratch / "debian.sources"
    sources.write_text((RECIPE / "debian.sources").read_text().replace("@suite@", SUITES[name]))
    packages = ",".join((RECIPE / "packages").read_text().split())
    tarball = scratch / "root.tar"
    options = [f"--aptopt={line}" for line in apt_settings().splitlines()]
    command = ("mmdebstrap", "--variant=minbase", f"--include={packages}", *options, SUITES[name])
    run(*command, str(tarball), str(sources), what=f"mmdebstrap {SUITES[name]}")
    base = f"{IMAGE}-base:{name}"
    run("docker", "import", str(tarball), base, what="docker import")
    tarball.unlink()
    return base


def ensure_image(name: str) -> bool:
    """Make sure that `flaskops-test:NAME` exists and is current; True if it was made now.

    :raises ToolError: when it cannot be made.
    """
    if image_is_current(name):
        return False
    if name.endswith(READY):
        ensure_image(name.removesuffix(READY))
    say(f"Making the image {IMAGE}:{name} (once; about half a minute) ...")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flaskops-") as scratch_name:
        scratch = Path(scratch_name)
        context = scratch / "context"
        if name.endswith(READY):
            base = f"{IMAGE}:{name.removesuffix(READY)}"
            shutil.copytree(READY_RECIPE, context)
        else:
            base = base_image(name, scratch)
            shutil.copytree(RECIPE, context)
            (context / "apt.conf").write_text(apt_settings())
        arguments = [f"--build-arg=BASE={base}", f"--label={LABEL}={recipe_id(name)}", f"--tag={IMAGE}:{name}"]
        run("docker", "build", "--quiet", *arguments, str(context), what=f"docker build {IMAGE}:{name}")
    say(f"Made {IMAGE}:{name} in {time.monotonic() - started:.0f} s.")
    return True


def ensure_python_image() -> None:
    """Make sure that there is an archive of a base image with Python, for containers inside of test hosts.

    :raises ToolError: when it cannot be made.
    """
    ensure_image("debian13")
    archive = ROOT / ".cache" / "images" / "python.tar"
    marker = archive.with_suffix(".recipe")
    if archive.exists() and marker.exists() and marker.read_text() == recipe_id("python"):
        return
    say("Making the base image for containers inside of test hosts ...")
    archive.parent.mkdir(parents=True, exist_ok=True)
    made = f"localhost/{IMAGE}:python"
    recipe = RECIPE / "python.Dockerfile"
    run("docker", "build", "--quiet", f"--file={recipe}", f"--tag={made}", str(RECIPE), what=f"docker build {made}")
    # Renamed once it is complete: several scenarios may run at once.
    run("docker", "save", f"--output={archive}.{os.getpid()}", made, what="docker save")
    os.replace(f"{archive}.{os.getpid()}", archive)
    marker.write_text(recipe_id("python"))


def remove_images(*names: str) -> None:
    """Remove images that no container uses, and the base images of those."""
    for name in names:
        if succeeds("docker", "image", "rm", f"{IMAGE}:{name}"):
            succeeds("docker", "image", "rm", f"{IMAGE}-base:{name}")


def host_state(name: str) -> str:
    """Return the state of a container (`running`, `exited`, ...); empty if there is none."""
    return output("docker", "container", "inspect", "--format", "{{.State.Status}}", name)


def start_host(name: str, image: str, *options: str) -> None:
    """Create or start a container that behaves as a VM, and wait until its systemd reports `running`.

    :param image: the name of one of our images, such as `debian13`.
    :param options: further options of `docker run`.
    :raises ToolError: when it does not boot.
    """
    state = host_state(name)
    if not state:
        proxies = [
            f"--env={variable}" for variable in ("http_proxy", "https_proxy", "no_proxy") if variable in os.environ
        ]
        command = (
            "docker",
            "run",
            "--detach",
            f"--name={name}",
            f"--hostname={name}",
            *HOST_OPTIONS,
            *proxies,
            *options,
        )
        run(*command, f"{IMAGE}:{image}", what=f"starting {name}")
    elif state != "running":
        run("docker", "start", name, what=f"starting {name}")
    deadline = time.monotonic() + BOOT_TIMEOUT
    while (boot_state := output("docker", "exec", name, "systemctl", "is-system-running")) != "running":
        if time.monotonic() > deadline or host_state(name) != "running":
            failed = output("docker", "exec", name, "systemctl", "--failed", "--no-legend", "--plain")
            log = output("docker", "logs", "--tail=20", name)
            raise ToolError(f"{name} does not boot: systemd reports {boot_state or 'nothing'!r}.\n{failed}\n{log}")
        time.sleep(0.2)


def remove_host(name: str) -> None:
    """Stop a container, so that its connections end, and remove it with its anonymous volumes."""
    if host_state(name) == "running":
        succeeds("docker", "stop", "--time=10", name)
    if host_state(name):
        run("docker", "rm", "--force", "--volumes", name, what=f"removing {name}")
    # With cgroup v1 each systemd had a tree of its own; rmdir fails for those still in use.
    for tree in Path("/sys/fs/cgroup/unified/testhosts").glob("*"):
        for directory in sorted((tree, *tree.rglob("*/")), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                directory.rmdir()


def scenario_hosts() -> list[str]:
    """The containers that Molecule left behind in this clone; the platforms of .config/molecule name them."""
    names = output("docker", "ps", "--all", "--format={{.Names}}", "--filter=label=owner=molecule").split()
    return [name for name in names if any(name.startswith(f"{suite}-{CLONE}") for suite in SUITES)]


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return 1 if something is missing on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("engine", help="make sure that a container engine answers")
    images = commands.add_parser("images", help="make sure that the systemd images exist and are current")
    images.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    commands.add_parser("python", help="make sure that there is a base image for containers inside of test hosts")
    commands.add_parser("clone", help="write .env.yml for Molecule")
    commands.add_parser("remove", help="remove this clone's test hosts, and the images that no container uses")
    parsed = parser.parse_args(arguments)
    names = (parsed.names or NAMES) if parsed.command == "images" else []
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such image: {', '.join(sorted(unknown))}")
    try:
        if parsed.command == "clone":
            (ROOT / ".env.yml").write_text(f'---\nCLONE: "{CLONE}"\n')
            return 0
        if parsed.command == "remove":
            for host in scenario_hosts():
                remove_host(host)
            succeeds("docker", "image", "rm", f"localhost/{IMAGE}:python")
            remove_images(*reversed(NAMES))
            return 0
        ensure_engine()
        for name in names:
            ensure_image(name)
        if parsed.command == "python":
            ensure_python_image()
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
