"""Keeping the terminal clean of what C++ code prints."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Sends file descriptors 1 and 2 to a temporary file; shows it only if the block fails.

    The converter and the interpreter log from C++, below `sys.stdout` and any log level that can
    be set after their import. While the block runs, other threads' prints go the same way: keep
    it to the call that prints.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        for number in (1, 2):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(log.fileno(), number)
        with warnings.catch_warnings():
            # TensorFlow's own converter starts TensorFlow's own deprecated interpreter.
            warnings.filterwarnings("ignore", message=r"\s*.*tf\.lite\.Interpreter is deprecated")
            try:
                yield
            except Exception as error:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
                printed = log.read().decode(errors="replace").strip()
                if printed:
                    error.add_note(f"It had printed:\n{printed}")
                raise
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
