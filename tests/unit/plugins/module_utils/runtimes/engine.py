# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An engine on the path that keeps names of images and nothing else, and a host with it."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Bundle
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.image import Image
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.image_build import ImageBuilder
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import resolve_one

DIGEST = f"registry.example.org/team/shop@sha256:{'d' * 64}"

PASSWORD = "hunter2-hunter2"

MINE = "localhost/flaskops/shop"

# An image has an id and names; without any name it is gone. Every answer is one that the real engines give.
ENGINE = """\
#!{python} -IS
import json, os, sys, time
path, words, plain, options = {state!r}, sys.argv[1:], [], {{}}
state = json.load(open(path))
there, state["calls"] = state["images"], state["calls"] + [[os.path.basename(sys.argv[0]), *words]]
state["environment"] = dict(os.environ)
rest = iter(words)
for word in rest:
    if word in ("--authfile", "--file", "--tag", "--secret", "--network", "--format", "--input"):
        options.setdefault(word, []).append(next(rest))
    elif not word.startswith("-"):
        plain.append(word)

def end(said="", code=0):
    json.dump(state, open(path, "w"))
    print(said)
    sys.exit(code)

def known(name):
    return there.get(name) or (name if name in there.values() else end("Error: " + name + ": image not known", 1))

verb = " ".join(plain[:2]) if plain[0] in ("image", "container") else plain[0]
last = plain[-1]
if verb in state["fails"]:
    end(state["fails"][verb], 125)
if verb == "build":
    files = [os.path.join(d, f) for d, _, names in os.walk(last) for f in names]
    state["built"] = {{
        "recipe": os.path.relpath(options["--file"][0], last),
        "context": {{os.path.relpath(f, last): open(f).read() for f in files if not os.path.islink(f)}},
        "secrets": {{s.split(",src=")[0][3:]: open(s.split(",src=")[1]).read() for s in options["--secret"]}},
    }}
    there[options["--tag"][0]] = state["config"]["Id"] = "id-built"
elif verb == "pull":
    there[last] = state["registry"].get(last) or end("Error: manifest unknown", 125)
elif verb == "push":
    state["registry"][last] = known(last)
elif verb == "load":
    import tarfile
    there.update(state["archive"])
    with tarfile.open(options["--input"][0]) as tar:
        for name in tar.getnames():
            state["loads"][name] = tar.extractfile(name).read().decode() if tar.getmember(name).isreg() else None
    if "manifest.json" in state["loads"]:
        for tag in json.loads(state["loads"]["manifest.json"])[0].get("RepoTags") or []:
            there[tag] = "id-loaded"
    end(state["loaded"])
elif verb == "tag":
    there[last] = known(plain[-2])
elif verb == "image inspect":
    tags = [name for name, image in there.items() if image == known(last) and "@" not in name]
    end(json.dumps([{{"Id": known(last), "Config": state["config"], "RepoTags": tags, "RepoDigests": ["x@sha256:1"]}}]))
elif verb == "image rm":
    image = known(last)
    if last in state["used"]:
        end("Error: image used by a container", 2)
    for name in [last] if last in there else [name for name in there if there[name] == image]:
        del there[name]
elif verb == "image ls":
    end("\\n".join(sorted(name for name in there if "@" not in name)))
elif verb == "container inspect":
    end(*state["pids"].pop(0))
elif verb == "create":
    end("WARNING: another platform\\ncontainer-1")
elif verb == "cp":
    directory = plain[-2].partition(":")[2].removesuffix("/.")
    directory in state["directories"] or end("Error: no such file or directory", 1)
    os.path.isdir(last) or end("Error: could not be found on the host", 1)
    open(os.path.join(last, "from"), "w").write(directory)
elif verb == "sleep":
    time.sleep(60)
end()
"""


class Host:
    """A host with an engine: what it holds, what it was asked, and a release of the app ``shop`` in the making."""

    def __init__(self, root: Path) -> None:
        self.root, self.state, self.bin = root, root / "state.json", root / "bin"
        self.layout = Layout("shop", root)
        self.image, self.builder = Image(self.layout), ImageBuilder(self.layout)
        self.bin.mkdir()
        self.told: dict[str, Any] = {key: {} for key in ("images", "registry", "archive", "fails", "config")}
        self.told |= {"calls": [], "used": [], "pids": [], "directories": [], "loaded": "", "loads": {}}
        self.installer = root / "installer.env"

    def has(self, *engines: str) -> None:
        for name in engines:
            (self.bin / name).write_text(ENGINE.format(python=sys.executable, state=str(self.state)))
            (self.bin / name).chmod(0o755)

    def tell(self, **told: Any) -> None:
        self.state.write_text(json.dumps({**self.now(), **told}))

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.state.read_text()) if self.state.exists() else self.told
        return found

    @property
    def names(self) -> list[str]:
        return sorted(self.now()["images"])

    def called(self, verb: str) -> list[list[str]]:
        return [call for call in self.now()["calls"] if verb in call]

    def serve(self, home: Path, engine: str, registry: str = "") -> None:
        (home / "serve").mkdir(parents=True)
        (home / "serve/container.json").write_text(json.dumps({"engine": engine, "registry": registry}))
        (home / "serve/Containerfile").write_text("FROM base\n")

    def bundle(
        self,
        files: dict[str, str] | None = None,
        engine: str = "podman",
        registry: str = "",
        release: str = "aaa",
        **app: Any,
    ) -> Bundle:
        """Return a release of these files, or of none."""
        spec = resolve_one(
            {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app", "server": "container", **app}, "a"
        )
        staging = self.layout.staging(release)
        self.serve(staging, engine, registry)
        if files is None:
            return Bundle(spec, release, staging)
        code = self.root / f"code-{release}"
        for name, text in {"shop.py": "", **files}.items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_text(text)
        with tarfile.open(self.root / f"{release}.tar", "w") as tar:
            tar.add(code, ".")
        return Bundle(spec, release, staging, self.root / f"{release}.tar", ["gunicorn==27.0.1"])


ENGINES = pytest.mark.parametrize("engine", ["podman", "docker"])

SHARED = "registry.example.org/apps/shop:aaa"
