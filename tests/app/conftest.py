"""Put the app's source folder on the path, where uWSGI has it, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "files" / "app"))
