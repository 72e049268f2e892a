"""A pickle read as data: a small stack machine that builds lists, dicts and inert records, and calls nothing.

Python's own unpickler imports and calls what a file names, which is why a weights file can run arbitrary code. This
machine knows the opcodes (`pickletools` splits the bytes) but has no way to import: a class or function is only its
name, calling one makes a `Record` of name and arguments, and setting state fills a field of that record. Tensors are
recognised by the names of their rebuilders and become a `StoredTensor`, a description that the archive fills later.

Work is bounded by `MAX_OPCODES` and the bytes given; the machine itself never recurses.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ultralytics.utils.errors import CheckpointError

MAX_OPCODES = 500_000
MAX_INTEGER_BITS = 128
"""Larger integers, which no checkpoint holds, cannot become numbers of a tensor, and are slow to write out."""
MAX_COPIED = 1 << 28
"""Bytes of containers and strings that the machine may copy; without a bound, calls on one big object multiply it."""

SCALARS = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names, such as `torch.nn.modules.conv.Conv2d`; never imported."""

    text: str


@dataclass
class Record:
    """An object of a pickle: the name of its class or function, the arguments it was made with, and its state.

    `state` is what the pickle would set on the object; `items` are elements put into it (for subclasses of list, dict).
    """

    name: str
    args: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class StorageRef:
    """A block of numbers in the archive: element type, key of the member, number of elements."""

    dtype: str
    key: str
    numel: int


@dataclass(eq=False)
class StoredTensor:
    """A view into a `StorageRef`: offset and strides in elements."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


_RESULT = "the result of a call"


class _Mark:
    """The type of the one object that stands for an opened bracket."""


_MARK = _Mark()


def read_pickle(data: bytes) -> tuple[Any, frozenset[str]]:
    """Return the object of a pickle, and every name in it. Nothing is imported or called.

    Raises CheckpointError when the bytes are not a whole pickle of known opcodes, or are too many.
    """
    machine = _Machine()
    try:
        return machine.run(data), frozenset(machine.names)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as e:
        reason = (str(e) or type(e).__name__).splitlines()[0][:100]
        raise CheckpointError(f"the pickle inside is damaged or not one of a checkpoint: {reason}") from None


class _Machine:
    """Stack, memo and names of one reading."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, Any] = {}
        self.names: set[str] = set()
        self.copied = 0

    def run(self, data: bytes) -> object:
        """Work through all opcodes up to STOP."""
        for count, (op, arg, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise CheckpointError(f"the pickle inside has over {MAX_OPCODES:,} opcodes, more than any checkpoint")
            if op.name in _LITERALS:
                self.push(arg)
            elif op.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[op.name]())
            elif op.name in _HANDLERS:
                _HANDLERS[op.name](self, arg)
            elif op.name == "STOP":
                return self.pop()
            elif op.name not in {"PROTO", "FRAME"}:
                raise CheckpointError(f"the pickle inside uses the opcode {op.name}, which no checkpoint needs")
        raise ValueError("it has no end")

    # ------------------------------------------------------------------------------------------------------- stack
    def push(self, value: object) -> None:
        """Put a literal on the stack."""
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            raise ValueError(f"it has an integer of more than {MAX_INTEGER_BITS} bits")
        self.stack.append(value)

    def pop(self) -> object:
        """Take the top object, which must not be a mark."""
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("unexpected mark")
        return value

    def pop_mark(self) -> list[Any]:
        """Take everything above the topmost mark, and the mark."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError("no mark on the stack")

    def drop(self) -> None:
        """Remove the top object, which may be a mark."""
        del self.stack[-1]

    def drop_mark(self) -> None:
        """Remove everything above the topmost mark, and the mark."""
        self.pop_mark()

    def top(self) -> object:
        """Return the top object, which must not be a mark."""
        if self.stack[-1] is _MARK:
            raise ValueError("unexpected mark")
        return self.stack[-1]

    # ---------------------------------------------------------------------------------------------------- containers
    def tuple_of(self, n: int) -> None:
        """Replace the top n objects by their tuple."""
        items = [self.pop() for _ in range(n)]
        self.stack.append(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        """Append to the list, or to the record of a list's subclass, on top."""
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Record):
            target.items.extend(items)
        else:
            raise ValueError(f"items are appended to a {type(target).__name__}")

    def update(self, items: list[Any]) -> None:
        """Set keys and values, in turns, on the dict or record on top."""
        if len(items) % 2:
            raise ValueError("a key without a value")
        pairs = list(zip(items[::2], items[1::2], strict=True))
        target = self.top()
        if isinstance(target, dict):
            for key, value in pairs:
                target[_key(key)] = value
        elif isinstance(target, Record):
            target.items.extend(pairs)
        else:
            raise ValueError(f"keys are set on a {type(target).__name__}")

    # ------------------------------------------------------------------------------------------------------ objects
    def name(self, module: object, name: object) -> None:
        """Push a name."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a class name is not a string")
        text = f"{module}.{name}"
        self.names.add(text)
        self.stack.append(Name(text))

    def reduce(self) -> None:
        """`function(*args)`: rebuild a tensor or a container by its name, else make a record."""
        args, function = self.pop(), self.pop()
        if not isinstance(args, tuple):
            raise ValueError("arguments are not a tuple")
        for arg in args:
            self.spend(arg)
        self.stack.append(_call(function, args))

    def spend(self, value: object) -> None:
        """Count what a copy of `value` costs."""
        if isinstance(value, (str, bytes)):
            self.copied += len(value)
        elif isinstance(value, (list, tuple, dict)):
            self.copied += 64 * len(value)
        if self.copied > MAX_COPIED:
            raise ValueError("its calls multiply one big object")

    def new(self, keywords: bool) -> None:
        """`cls.__new__(cls, *args)`, with `keywords` also `**kwargs`: always a record."""
        kwargs = self.pop() if keywords else {}
        args, cls = self.pop(), self.pop()
        if not isinstance(cls, Name) or not isinstance(args, tuple):
            raise ValueError("an object without a class")
        self.stack.append(Record(cls.text, args, items=[kwargs] if kwargs else []))

    def build(self) -> None:
        """Set the state of the object on top; only a record keeps it."""
        state, target = self.pop(), self.top()
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if isinstance(target, Record):
            for part in parts:
                self.spend(part)
                if isinstance(part, dict):
                    target.state.update({k: v for k, v in part.items() if isinstance(k, str)})
                elif part is not None:
                    target.items.append(part)
        elif not isinstance(target, (dict, StoredTensor)):  # their attributes are not needed here
            raise ValueError(f"state is set on a {type(target).__name__}")

    def persistent(self) -> None:
        """`("storage", type, key, location, elements)`: a block of numbers of the archive."""
        pid = self.pop()
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], Name)):
            raise ValueError("unknown reference to the outside")
        _, kind, key, _, numel = pid
        if not isinstance(key, str) or not _is_count(numel):
            raise ValueError("a storage without key or size")
        self.stack.append(StorageRef(kind.text, key, numel))

    # --------------------------------------------------------------------------------------------------------- memo
    def put(self, index: int) -> None:
        """Remember the top object."""
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        """Push a remembered object."""
        self.stack.append(self.memo[index])


def _key(key: object) -> object:
    """A dict key: plain, or a short tuple of strings; a record stands for itself by name."""
    if isinstance(key, int) and abs(key) >= 1 << 60:  # such numbers can be made to share one hash
        raise ValueError("a dict key is a number of more than 60 bits")
    if isinstance(key, SCALARS):
        return key
    if isinstance(key, tuple) and len(key) <= 8 and all(isinstance(k, str) for k in key):
        return key
    if isinstance(key, (Record, Name)):
        return f"<{key.name if isinstance(key, Record) else key.text}>"
    raise ValueError(f"a dict key is a {type(key).__name__}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _call(function: object, args: tuple[Any, ...]) -> object:
    """The result of calling what a pickle names: tensors and containers by rule, all else as a record."""
    if isinstance(function, Name):
        rule = _REBUILDERS.get(function.text)
        return Record(function.text, args) if rule is None else rule(args)
    if isinstance(function, Record):  # the result of one call is called again
        return Record(_RESULT, args)
    raise ValueError(f"a {type(function).__name__} is called")


def _tensor(args: tuple[Any, ...]) -> StoredTensor:
    storage, offset, size, stride = args[:4]
    if isinstance(storage, StoredTensor):  # a wrapper around the same view
        storage = storage.storage
    shapes = all(isinstance(t, tuple) and len(t) <= 8 and all(_is_count(n) for n in t) for t in (size, stride))
    if not (isinstance(storage, StorageRef) and _is_count(offset) and shapes and len(size) == len(stride)):
        raise ValueError("a tensor with an impossible description")
    return StoredTensor(storage, offset, size, stride)


def _parameter(args: tuple[Any, ...]) -> StoredTensor:
    if not isinstance(args[0], StoredTensor):
        raise ValueError("a parameter without a tensor")
    return args[0]


def _mapping(args: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = args[0] if args else []
    if isinstance(pairs, dict):
        return dict(pairs)
    return {_key(k): v for k, v in pairs}


def _sequence(args: tuple[Any, ...]) -> list[Any]:
    items = args[0] if args else []
    if not isinstance(items, (list, tuple)):
        raise ValueError("a set of something that is not a list")
    return list(items)


def _size(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_sequence(args))


def _no_bytes(args: tuple[Any, ...]) -> bytes:
    """`bytes()`, which is how protocol 2 writes an empty one."""
    if args:
        raise ValueError("bytes are made of something")
    return b""


def _encoded(args: tuple[Any, ...]) -> bytes:
    if not isinstance(args[0], str):
        raise ValueError("encoded bytes without a string")
    return args[0].encode("latin-1")


def _path(args: tuple[Any, ...]) -> str:
    if not all(isinstance(a, str) for a in args):
        raise ValueError("a path of something that is not a string")
    return "/".join(args).replace("//", "/")


def _text(args: tuple[Any, ...]) -> str:
    if not all(isinstance(a, (str, int)) for a in args) or len(args) > 2:
        raise ValueError("a device of something that is not a string")
    return ":".join(map(str, args))


_REBUILDERS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "torch.device": _text,
    "collections.OrderedDict": _mapping,
    "_codecs.encode": _encoded,
    **{f"{m}.{c}": _sequence for m in ("builtins", "__builtin__") for c in ("set", "frozenset", "list")},
    **{f"{m}.bytes": _no_bytes for m in ("builtins", "__builtin__")},
    **{f"{m}.dict": _mapping for m in ("builtins", "__builtin__")},
    **{f"{m}.{c}Path": _path for m in ("pathlib", "pathlib._local") for c in ("Posix", "Windows", "PurePosix", "")},
}
"""What is rebuilt, by our own functions above; every other name makes a record."""

_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
    "MARK": lambda: _MARK,
}

_LITERALS = frozenset(
    """INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 STRING BINSTRING SHORT_BINSTRING""".split()
)

_HANDLERS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "POP": lambda m, _: m.drop(),
    "POP_MARK": lambda m, _: m.drop_mark(),
    "DUP": lambda m, _: m.stack.append(m.top()),
    "LIST": lambda m, _: m.stack.append(m.pop_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "DICT": lambda m, _: m.stack.append(_mapping(([*_pairs(m.pop_mark())],))),
    "FROZENSET": lambda m, _: m.stack.append(m.pop_mark()),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.update([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m.pop_mark()),
    "GLOBAL": lambda m, arg: m.name(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*[m.pop(), m.pop()][::-1]),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.new(False),
    "NEWOBJ_EX": lambda m, _: m.new(True),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.persistent(),
    "PUT": lambda m, arg: m.put(arg),
    "BINPUT": lambda m, arg: m.put(arg),
    "LONG_BINPUT": lambda m, arg: m.put(arg),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GET": lambda m, arg: m.get(arg),
    "BINGET": lambda m, arg: m.get(arg),
    "LONG_BINGET": lambda m, arg: m.get(arg),
}


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))
