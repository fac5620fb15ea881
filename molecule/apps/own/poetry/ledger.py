"""An app with Poetry's lock file, and an extension that links with libpq."""

import psycopg2
from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> dict[str, str | int]:
    """What it has, and what it says of a database that is not there."""
    try:
        psycopg2.connect("host=127.0.0.1 port=1 dbname=ledger")
    except psycopg2.OperationalError as error:
        return {"libpq": psycopg2.extensions.libpq_version(), "error": str(error)}
    return {"error": "a database answered"}
