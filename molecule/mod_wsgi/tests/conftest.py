"""The fixture of tests/support/serving.py."""

from __future__ import annotations

from ansible_collections.flaskops.server.tests.support.serving import served

__all__ = ["served"]
