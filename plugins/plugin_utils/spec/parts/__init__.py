# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an app each part of a release reads: every module here has its ``KEYS``, and ``RULES`` where it has some."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

_MODULES = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]

PART_KEYS: Mapping[str, Field] = {key: field for module in _MODULES for key, field in module.KEYS.items()}
PART_RULES: tuple[Callable[[Mapping[str, Any], str], list[str]], ...] = tuple(
    rule for module in _MODULES for rule in getattr(module, "RULES", ())
)
