"""Suppression of what other libraries print to the terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

# TensorFlow's own warnings about its interpreter: 2.19 and later, and 2.18.
_INTERPRETER = r"\s*(.*tf\.lite\.Interpreter is deprecated|Warning: Please use the LiteRT interp)"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Redirects file descriptors 1 and 2 to a temporary file while a block runs.

    The converter and the interpreter log from C++, below `sys.stdout` and any log level that can
    be set after their import. If the block fails, the last 4,000 bytes are added to the exception
    as a note. Prints of other threads are redirected too: keep the block short.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        for descriptor in (1, 2):
            original = os.dup(descriptor)
            stack.callback(os.close, original)
            stack.callback(os.dup2, original, descriptor)
            os.dup2(log.fileno(), descriptor)
        with warnings.catch_warnings():
            # TensorFlow's converter starts TensorFlow's deprecated interpreter.
            warnings.filterwarnings("ignore", message=_INTERPRETER)
            try:
                yield
            except Exception as error:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
                printed = log.read().decode(errors="replace").strip()
                if printed:
                    error.add_note(f"Output before the error:\n{printed}")
                raise
            finally:
                sys.stdout.flush()
                sys.stderr.flush()


@contextlib.contextmanager
def quiet_python() -> Iterator[None]:
    """Discards what Python code prints to `sys.stdout` while a block runs.

    The exporter of Keras 3.8 prints the artifact's signature in spite of `verbose=False`.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        yield
