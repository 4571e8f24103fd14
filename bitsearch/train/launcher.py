"""Starting processes of this machine that train together."""

import logging
import sys
import uuid
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def run_processes(count: int, arguments: Sequence[str]) -> int:
    """Run ``python ARGUMENTS`` in so many processes until all have ended; the exit code of the first that failed, or 0.

    torch's elastic agent starts and watches them, as it does under ``torchrun``: where one fails, the others are ended.
    What it has said stands for itself; the agent's own report, a traceback, is left out. A signal ends all of them and
    gives 128 + its number, as a shell tells it.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        # Those that the agent ended itself have negative codes, their signals.
        code = next((code for code in codes if code > 0), codes[0])
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0
