"""An app whose cffi is compiled with libffi's headers, and whose jsonschema is an old sdist."""

import cffi
import jsonschema
from flask import Flask

app = Flask(__name__)
ffi = cffi.FFI()
ffi.cdef("int abs(int);")


@app.get("/")
def index() -> dict[str, object]:
    """What a function of the C library answers, and what the schema says of it."""
    answer = ffi.dlopen(None).abs(-7)
    jsonschema.validate(answer, {"type": "integer"})
    return {"abs": answer, "jsonschema": jsonschema.__version__}
