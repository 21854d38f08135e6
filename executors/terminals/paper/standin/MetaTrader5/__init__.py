"""What `import MetaTrader5` finds when this directory's parent is on PYTHONPATH: the paper module itself."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[5])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from executors.terminals import paper

paper.install()  # Python hands out what stands in sys.modules after the import
