"""A parser for the pickle in a PyTorch checkpoint that imports and calls nothing it refers to.

A pickle is a program that can import and call anything. The standard library's `Unpickler` can
restrict the imports, but still sets attributes, calls methods and hashes keys. This parser executes
only the opcodes of protocols 2 to 5 that containers, numbers and tensors need, and creates the
placeholders of `pickle_objects` instead of PyTorch's objects. Other objects become placeholders
without contents. Any other opcode is an error.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any

from keras_resnet.weights.files.pickle_objects import (
    CALLS,
    VALUES,
    ArrayHolder,
    DTypeHolder,
    IgnoredObject,
    StorageSlice,
    StorageType,
    is_hostile,
    is_size,
    to_dict,
    with_byte_order,
)

_MAX_STEPS = 1_000_000  # a ResNet-152 needs 30,000
_MAX_NAME = 1000  # characters; a short pickle could name a long text again and again


@dataclasses.dataclass(frozen=True, eq=False)
class _Function:
    """A function that the pickle refers to, by its name in `CALLS`."""

    name: str


def parse(stream: Any) -> tuple[Any, dict[str, StorageSlice]]:
    """Parses one pickle; the stream then stands after it.

    Args:
        stream: An object with `read(n)`, `readline()` and `tell()`; `read` must not reserve memory
            for `n` bytes that do not exist.

    Returns:
        Dicts, lists, tuples, strings, bytes, numbers and None that contain `StorageSlice`,
        `TensorView`, `ArrayHolder` and `IgnoredObject`; and all its storages by key. The same
        object may occur several times, and a list or dict may contain itself.

    Raises:
        ValueError: If it refers to a function that only an attack needs, or is damaged.
    """
    machine = _Machine()
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name = opcode.name
        if step == _MAX_STEPS:
            raise ValueError(f"its pickle has more than {_MAX_STEPS} opcodes")
        if name in _LITERALS:
            machine.stack.append(argument)
        elif name in _STEPS:
            try:
                _STEPS[name](machine, argument)
            except (IndexError, KeyError, TypeError) as error:
                raise ValueError(f"its pickle is damaged at {name}") from error
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"its pickle holds {name}, which tensors do not need; no code was run")
    if len(machine.stack) != 1 or machine.marks:
        raise ValueError("its pickle is damaged: it does not end in one object")
    return machine.stack[0], machine.storages


def _why(dotted: str) -> str:
    if dotted == "torch.storage._load_from_bytes":
        return "a pickle in the pickle, as `pickle.dump` writes tensors: write them by `torch.save`"
    return "which no tensor needs"


class _Machine:
    """The stack machine of a pickle; each method executes one opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageSlice] = {}

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def remember(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[-count:]
        self.stack[-count:] = [tuple(items)]

    def tuple_since_mark(self, _: Any) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is IgnoredObject:
            return
        if type(target) is not list:
            raise ValueError(f"its pickle appends to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is IgnoredObject:
            return
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"its pickle sets items of a {type(target).__name__}")
        target.update(to_dict(zip(items[::2], items[1::2], strict=True)))

    def name(self, dotted: str) -> None:
        if dotted in VALUES:
            self.stack.append(VALUES[dotted])
        elif dotted in CALLS:
            self.stack.append(_Function(dotted))
        else:
            shown = dotted if len(dotted) <= 80 else dotted[:77] + "..."
            if is_hostile(dotted):
                raise ValueError(f"it refers to {shown!r}, {_why(dotted)}; no code was run")
            self.stack.append(IgnoredObject(shown))

    def name_from_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("its pickle refers to a name that is not a string; no code was run")
        if len(module) + len(name) > _MAX_NAME:
            raise ValueError(f"its pickle refers to a name of over {_MAX_NAME} characters")
        self.name(f"{module}.{name}")

    def reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if type(called) is IgnoredObject:
            self.stack.append(self.rebuilt_subclass(called, arguments))
            return
        if type(called) is not _Function or type(arguments) is not tuple:
            raise ValueError("its pickle calls an unknown function; no code was run")
        try:
            self.stack.append(CALLS[called.name](*arguments))
        except TypeError as error:  # too many arguments, too few, or of another type
            raise ValueError(f"its pickle gives {called.name} wrong arguments") from error

    def rebuilt_subclass(self, called: IgnoredObject, arguments: Any) -> Any:
        """Returns the tensor of `_rebuild_from_type_v2(rebuild, class, arguments, state)`."""
        tensor = called.name == "torch._tensor._rebuild_from_type_v2"
        if tensor and type(arguments) is tuple and len(arguments) == 4:
            function, _, inner, _ = arguments
            if type(function) is _Function and type(inner) is tuple:
                return CALLS[function.name](*inner)
        return IgnoredObject(called.name)

    def new(self, _: Any) -> None:
        _, called = self.stack.pop(), self.stack.pop()
        if type(called) is _Function:
            called = IgnoredObject(called.name)
        if type(called) is not IgnoredObject:
            raise ValueError("its pickle creates an object of no class; no code was run")
        self.stack.append(IgnoredObject(called.name))

    def new_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self.new(None)

    def ignored_set(self, _: Any) -> None:
        self.stack.append(IgnoredObject("set"))

    def frozen_set(self, _: Any) -> None:
        self.since_mark()
        self.stack.append(IgnoredObject("frozenset"))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is IgnoredObject:
            return
        if type(target) is ArrayHolder:
            _, shape, dtype, is_fortran, data = state
            target.fill(shape, dtype, "F" if is_fortran is True else "C", data)
        elif type(target) is DTypeHolder:
            target.dtype = with_byte_order(target.dtype, state)
        # A dict's state is the `_metadata` of a module's state dict: the versions of its layers.
        elif type(target) is not dict:
            raise ValueError(f"its pickle sets the state of a {type(target).__name__}")

    def persistent(self, _: Any) -> None:
        """Replaces `("storage", type, key, device, count[, view])` by a `StorageSlice`."""
        entry = self.stack.pop()
        if type(entry) is tuple and len(entry) == 4 and entry[0] == "module":
            self.stack.append(entry[1])  # a class with its source, in old pickles of a model
            return
        if type(entry) is not tuple or len(entry) not in (5, 6) or entry[0] != "storage":
            raise ValueError("its pickle refers to an external object that is not a storage")
        kind, key, count = entry[1], entry[2], entry[4]
        if type(kind) is not StorageType or type(key) is not str or not is_size(count):
            raise ValueError("its pickle describes a storage wrongly")
        storage = self.storages.setdefault(key, StorageSlice(key, kind.dtype, count))
        if (storage.dtype, storage.count) != (kind.dtype, count):
            raise ValueError(f"its pickle describes the storage {key[:80]!r} in two ways")
        if len(entry) == 6 and entry[5] is not None:
            part = entry[5]
            if type(part) is not tuple or len(part) != 3:
                raise ValueError("its pickle describes a part of a storage wrongly")
            _, start, length = part
            if not is_size(start) or not is_size(length) or start + length > count:
                raise ValueError(f"a part of the storage {key[:80]!r} is outside it")
            storage = StorageSlice(key, kind.dtype, length, start)
        self.stack.append(storage)


_LITERALS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "BINFLOAT",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": _Machine.tuple_since_mark,
    "EMPTY_SET": _Machine.ignored_set,
    "FROZENSET": _Machine.frozen_set,
    "ADDITEMS": lambda machine, _: machine.append(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "MARK": _Machine.mark,
    "BINPUT": _Machine.memoize,
    "LONG_BINPUT": _Machine.memoize,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.remember,
    "LONG_BINGET": _Machine.remember,
    "GLOBAL": lambda machine, pair: machine.name(pair.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
