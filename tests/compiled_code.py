"""A folder of compiled code for each set of instructions: code with vectors does not compile without them.

Imported before torch, which settles its own folder when somebody first asks for a compiler.
"""

import getpass
import os
import tempfile
from pathlib import Path

_NAME = f"bitsearch-inductor-{getpass.getuser()}-{os.environ.get('ATEN_CPU_CAPABILITY', 'native')}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / _NAME))
