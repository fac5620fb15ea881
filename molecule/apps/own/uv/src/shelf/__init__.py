"""A package below src whose requests call its own console script."""

import subprocess
from importlib.metadata import version

from flask import Flask


def main() -> None:
    """What the script shelf prints."""
    print(f"shelf {version('shelf')}")


def create_app() -> Flask:
    """Make the app."""
    app = Flask(__name__)

    @app.get("/")
    def index() -> str:
        return subprocess.run(["shelf"], capture_output=True, text=True, check=True).stdout

    return app
