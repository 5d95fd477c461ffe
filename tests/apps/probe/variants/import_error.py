"""Cannot be imported: it needs a package that nobody installed."""

import flask_teapot  # noqa: F401
