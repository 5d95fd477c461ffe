# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The patterns of what is left out."""

from __future__ import annotations

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.exclude import compile_excludes


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("*.md", ["a.md", "docs/a.md"], ["a.mdx"]),
        ("docs", ["docs", "docs/x", "a/docs/x"], ["docsy", "a/xdocs"]),
        ("docs/", ["docs/x"], ["docs"]),
        ("/docs", ["docs/x"], ["a/docs"]),
        ("a/*.txt", ["a/b.txt"], ["a/b/c.txt", "x/a/b.txt"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/b/c/d"], ["c"]),
        ("**/tests", ["tests/x", "a/b/tests"], ["test"]),
        ("te?t[!0-9]", ["tests", "textx"], ["test1"]),
        ("a+b (1).txt", ["a+b (1).txt"], ["aab 1.txt"]),
    ],
)
def test_patterns(pattern: str, hits: list[str], misses: list[str]) -> None:
    excluded = compile_excludes([pattern])
    assert all(excluded(name) for name in hits)
    assert not any(excluded(name) for name in misses)
