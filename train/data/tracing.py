"""Data sets whose functions are traced as they are written, without AutoGraph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def without_autograph(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorates a function that makes data sets, whose own functions AutoGraph then leaves alone.

    These functions have no Python branches or loops over tensors. AutoGraph would parse and
    translate the source of each: over a second of processor time at the start of every process.
    """

    @functools.wraps(function)
    def traced(*args: _P.args, **options: _P.kwargs) -> _T:
        import tensorflow as tf

        made: _T = tf.autograph.experimental.do_not_convert(function)(*args, **options)
        return made

    return traced
