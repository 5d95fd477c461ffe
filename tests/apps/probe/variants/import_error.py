"""Cannot be imported: it needs a package that nobody installed."""

import flask_teapot

app = flask_teapot.Flask(__name__)
