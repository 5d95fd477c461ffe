# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of the house that a machine can check."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx import sites
from ansible_collections.flaskops.server.plugins.plugin_utils.spec import apps as spec
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import APP
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
PYTHON = sorted(path for path in (ROOT / "plugins").rglob("*.py") if path.stat().st_size)
YAML_HERE = [path for part in ("roles", "playbooks", "plugins") for path in (ROOT / part).rglob("*.yml")]


def read(path: Path) -> Any:
    """Return what a YAML file says, nothing where there is none."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def texts(role: str) -> dict[Path, str]:
    """Return a role's tasks, handlers, variables and templates."""
    parts = ("tasks", "handlers", "templates", "vars")
    paths = [path for part in parts for path in (ROOT / "roles" / role / part).rglob("*") if path.is_file()]
    return {path: path.read_text(encoding="utf-8") for path in paths}


def documented(options: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    """Return each option, those inside of others too, and whether it has a description."""
    for name, option in options.items():
        yield path + name, bool(option.get("description"))
        yield from documented(option.get("options") or {}, f"{path}{name}.")


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_argument_specs_say_the_same(role: str) -> None:
    entries = read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
    options = entries["main"]["options"]
    required = {name for name, option in options.items() if option.get("required")}
    assert {name: option.get("default") for name, option in options.items() if name not in required} == (
        read(ROOT / "roles" / role / "defaults/main.yml")
    )
    for entry in entries.values():
        assert entry.get("short_description")
        assert [name for name, said in documented(entry.get("options", {})) if not said] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_used(role: str) -> None:
    everything = "\n".join(texts(role).values())
    options = read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert [name for name in options if not re.search(rf"\b{name}\b", everything)] == []


def assigned(node: Any) -> Iterator[str]:
    """Return the variables that tasks make: registered, set, loop variables; nothing else of a role is global."""
    if isinstance(node, list):
        for item in node:
            yield from assigned(item)
    elif isinstance(node, dict):
        yield from filter(None, [node.get("register")])
        yield from (node.get("ansible.builtin.set_fact") or {}).keys() - {"cacheable"}
        control = node.get("loop_control") or {}
        yield from filter(None, [control.get("loop_var"), control.get("index_var")])
        # What is given to an included role is that role's.
        if not {"ansible.builtin.include_role", "ansible.builtin.import_role"} & set(node):
            yield from node.get("vars") or {}
        for part in ("block", "rescue", "always"):
            yield from assigned(node.get(part) or [])


@pytest.mark.parametrize("role", ROLES)
def test_prefixes(role: str) -> None:
    home = ROOT / "roles" / role
    assert [name for name in read(home / "defaults/main.yml") if not name.startswith(f"{role}_")] == []
    private = [*read(home / "vars/main.yml")]
    for part in ("tasks", "handlers"):
        private += [name for path in (home / part).rglob("*.yml") for name in assigned(read(path))]
    assert [name for name in private if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_stands_alone(role: str) -> None:
    meta = read(ROOT / "roles" / role / "meta/main.yml")
    assert meta["dependencies"] == []
    assert meta["galaxy_info"]["license"] == "GPL-3.0-or-later"
    # An app's list belongs to the playbooks.
    assert [str(path) for path, text in texts(role).items() if re.search(r"\bflask_apps\b", text)] == []


#: What a play can be narrowed to with ``--tags``, beside the name of a role; see docs/architecture.md.
PHASES = {"install", "configure", "service", "deploy"}
#: A task that has others inside, as a part of a role.
PHASE = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks", "ansible.builtin.include_role")


def tags(task: Mapping[str, Any]) -> set[str]:
    """Return the tags of a task."""
    said = task.get("tags", [])
    return {said} if isinstance(said, str) else set(said)


@pytest.mark.parametrize("role", ROLES)
def test_every_phase_of_a_role_has_its_tag(role: str) -> None:
    for task in read(ROOT / "roles" / role / "tasks/main.yml"):
        [kind] = set(PHASE) & set(task)
        if task[kind] == "preflight.yml" or kind == "ansible.builtin.include_role":
            # What validates always runs; the phases of another role have tags of their own.
            assert tags(task) == {"always"}, task["name"]
        else:
            assert tags(task) >= {role} and tags(task) & PHASES, task["name"]


@pytest.mark.parametrize("path", [path for path in YAML_HERE if path.parts[-2] == "tasks"], ids=str)
def test_what_is_included_has_the_tags_of_its_phase(path: Path) -> None:
    # Ansible gives the tags of an include to the include alone, not to the tasks in the file.
    for task in read(path) or []:
        included = task.get("ansible.builtin.include_tasks")
        assert included is None or (isinstance(included, dict) and included["apply"]["tags"]), f"{path}: {task['name']}"


@pytest.mark.parametrize("name", ["verify", "gate", "activate"])
def test_no_step_of_a_deploy_is_left_out_by_a_tag(name: str) -> None:
    # A gate that is skipped while the step before it runs would let one host go live without the others.
    assert [
        task["name"] for task in read(ROOT / f"roles/app/tasks/{name}.yml") if tags(task) != {"app", "deploy"}
    ] == []


def module_documentation(name: str) -> dict[str, Any]:
    """Return DOCUMENTATION, EXAMPLES and RETURN of a module, parsed."""
    parsed: dict[str, Any] = read(ROOT / "plugins/modules" / f"{name}.yml")
    parsed["EXAMPLES"] = yaml.safe_load(parsed["EXAMPLES"])
    documentation = parsed["DOCUMENTATION"]
    documentation.setdefault("options", {})
    for fragment in documentation.get("extends_documentation_fragment", []):
        if fragment.startswith("flaskops.server."):
            _unused, _unused, file, *part = fragment.split(".")
            found = importlib.import_module(f"ansible_collections.flaskops.server.plugins.doc_fragments.{file}")
            text = getattr(found.ModuleDocFragment, part[0].upper() if part else "DOCUMENTATION")
            documentation["options"] |= yaml.safe_load(text).get("options", {})
    return parsed


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_documented(name: str) -> None:
    said = module_documentation(name)
    documentation = said["DOCUMENTATION"]
    assert documentation["module"] == name
    assert documentation["short_description"] and documentation["description"] and documentation["author"]
    assert [option for option, has in documented(documentation["options"]) if not has] == []
    for example in said["EXAMPLES"]:
        assert example["name"] and isinstance(example[f"flaskops.server.{name}"], dict)
        assert set(example[f"flaskops.server.{name}"]) <= set(documentation["options"])
    for returned in said["RETURN"].values():
        assert {"description", "returned", "type"} <= set(returned)


class Taken(Exception):  # noqa: N818
    """Carries what a module tells Ansible of its options."""


@pytest.mark.parametrize("name", MODULES)
def test_modules_take_what_they_document(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(argument_spec: dict[str, Any], **_unused: Any) -> None:
        raise Taken(argument_spec)

    module = importlib.import_module(f"ansible_collections.flaskops.server.plugins.modules.{name}")
    if not hasattr(module, "main"):
        # All of it is in the action plugin.
        assert (ROOT / "plugins/action" / f"{name}.py").is_file()
        return
    monkeypatch.setattr(module, "AnsibleModule", taken)
    with pytest.raises(Taken) as caught:
        module.main()
    options = module_documentation(name)["DOCUMENTATION"]["options"]
    keys = ("type", "default", "choices", "required", "elements")
    assert {option: {key: facts.get(key) for key in keys} for option, facts in caught.value.args[0].items()} == (
        {option: {key: facts.get(key) for key in keys} for option, facts in options.items()}
    )


def fields(of: Mapping[str, Field], path: str = "") -> Iterator[tuple[str, Field]]:
    """Return every field of a schema, those inside of others too."""
    for name, field in of.items():
        yield path + name, field
        yield from fields(field.fields or {}, f"{path}{name}.")
        inner = {kind: item for kind, item in (("items", field.items), ("values", field.values)) if item}
        yield from fields(inner, f"{path}{name}.")


@pytest.mark.parametrize("schema", [APP, sites.SITE_FIELDS], ids=["flask_apps", "nginx_sites"])
def test_every_field_is_documented(schema: Mapping[str, Field]) -> None:
    assert [path for path, field in fields(schema) if not re.fullmatch(r"[A-Z`a-z].*[.)]", field.doc)] == []


def test_every_default_of_a_field_is_one_that_it_takes() -> None:
    app = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app"}
    once = spec.resolve_one(app, "app")
    assert spec.resolve_one(once, "app") == once


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_python_says_whose_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head = "# Copyright: Contributors to the flaskops.server collection\n# GNU General Public License v3.0+ "
    assert head in "\n".join(text.splitlines()[:3])
    assert "from __future__ import annotations" in text


FORBIDDEN = {
    r"\bignore_errors\s*:\s*true": "hides a fault",
    r"\bfailed_when\s*:\s*false": "hides a fault",
    r"state\s*:\s*latest": "is never the same twice",
    r"\bansible_(distribution|os_family|default_ipv4|processor_vcpus|memtotal_mb|fqdn)\b": "goes through ansible_facts",
    r"^\s*(- )?community\.\w+\.": "is no part of ansible-core",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_what_no_role_does(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0].strip()} {FORBIDDEN[pattern]}"
        for path in YAML_HERE
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert found == []


def test_the_product_needs_no_other_collection() -> None:
    assert not read(ROOT / "galaxy.yml").get("dependencies")
