"""One worker that `keras-resnet launch` starts: the command line, ended when its launcher is gone.

Run as `python -m keras_resnet_train.launched PROCESS_ID COMMAND ...`.
"""

from __future__ import annotations

import os
import sys
import threading
import time

_LOOK = 1.0  # seconds


def _end_without(parent: int) -> None:
    """Ends this process when its parent has ended: nobody would stop it, or read its output."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(137)  # the shell's status for SIGKILL


if __name__ == "__main__":
    threading.Thread(target=_end_without, args=(int(sys.argv[1]),), daemon=True).start()

    from .cli import end_failed_worker, main

    ended = main(sys.argv[2:])
    end_failed_worker(ended)
    sys.exit(ended)
