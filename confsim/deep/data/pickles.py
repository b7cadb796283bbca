"""A parser of the few pickles that CIFAR batches are made of. It calls nothing that a file names.

A pickle is a program for a stack machine whose instructions may call any function. This machine
knows the instructions that write one dictionary of byte strings, text, integers, lists of these and
arrays of unsigned bytes, as Python 2 (protocol 2) and Python 3 (protocols 2 to 5) write it. What
NumPy's pickles call (``_reconstruct``, ``dtype``, ``_frombuffer``) is a mere mark on the stack; an
array is made from its bytes by this module, after its dtype and shape have been checked against
their number. Everything else is refused with a :class:`DataError`.

Memory stays within a few times the size of the file: objects are shared, never copied, and lists do
not nest.
"""

import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from confsim.deep.data.limits import DataError

#: Functions and classes that NumPy's and Python's writers refer to, by every name they have had.
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how Python 3 writes bytes in protocol 2
}

_MARK = object()
_FORMS = {form: struct.Struct("<" + form) for form in "BHIiQ"}


class _Global(NamedTuple):
    """A function or class that was referred to."""

    name: str


class _Dtype:
    """The dtype of unsigned bytes; nothing else gets here."""


class _Array:
    """An array that is described but not yet filled."""

    value: "np.ndarray[Any, Any] | None" = None


def load_batch(content: bytes) -> dict[str, Any]:
    """Return the dictionary that a pickle holds.

    Parameters
    ----------
    content : bytes
        A whole file.

    Returns
    -------
    dict
        Keys are text. Values are ``bytes``, ``str``, ``int``, ``bool``, ``None``, lists of these,
        or read-only ndarrays of ``uint8``.

    Raises
    ------
    DataError
        If it holds anything else, or is truncated or damaged.
    """
    try:
        return _Machine(content).run()
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise DataError("it is truncated or damaged") from error


class _Machine:
    """The stack machine. An instruction is a method; ``_CODES`` says which byte calls which."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def run(self) -> dict[str, Any]:
        """Execute until the instruction that stops; return the dictionary on the stack."""
        codes, content = _CODES, self._content
        while True:
            code = content[self._at]
            self._at += 1
            if code == 0x2E:  # STOP
                break
            instruction = codes.get(code)
            if instruction is None:
                raise DataError(f"it has an instruction {bytes([code])!r} that is not admitted")
            instruction(self)
        if len(self._stack) != 1 or not isinstance(self._stack[0], dict):
            raise DataError("it holds no dictionary")
        return {_key(key): _filled(value) for key, value in self._stack[0].items()}

    # -- Reading and the stack ---------------------------------------------------------------------

    def _bytes(self, count: int) -> bytes:
        piece = self._content[self._at : self._at + count]
        if len(piece) != count:
            raise DataError("it is truncated")
        self._at += count
        return piece

    def _number(self, form: str) -> int:
        layout = _FORMS[form]
        number: int = layout.unpack_from(self._content, self._at)[0]
        self._at += layout.size
        return number

    def _line(self) -> str:
        end = self._content.find(b"\n", self._at, self._at + 200)
        if end < 0:
            raise DataError("it is truncated or damaged")
        return self._bytes(end + 1 - self._at)[:-1].decode("ascii")

    def _text(self, form: str) -> str:
        return self._bytes(self._number(form)).decode("utf-8", "surrogatepass")

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise DataError("it is damaged: nothing lies between two marks")
        return value

    def _pop_to_mark(self) -> list[Any]:
        stack = self._stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is _MARK:
                items = stack[at + 1 :]
                del stack[at:]
                return items
        raise DataError("it is damaged: a mark is missing")

    # -- Instructions ------------------------------------------------------------------------------

    def proto(self) -> None:
        if self._bytes(1)[0] > 5:
            raise DataError("its protocol is not 2 to 5")

    def frame(self) -> None:
        self._bytes(8)

    def mark(self) -> None:
        self._stack.append(_MARK)

    def put(self, key: int) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise DataError("it is damaged: there is nothing to remember")
        self._memo[key] = self._stack[-1]

    def get(self, key: int) -> None:
        if key not in self._memo:
            raise DataError("it is damaged: it recalls what it has not stored")
        self._stack.append(self._memo[key])

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> None:
        self._pop()

    def long(self) -> None:
        size = self._number("B")
        if size > 8:
            raise DataError("it holds an integer of more than 64 bits")
        self._stack.append(int.from_bytes(self._bytes(size), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._stack.append(_flat_tuple(items[::-1]))

    def tuple_to_mark(self) -> None:
        self._stack.append(_flat_tuple(self._pop_to_mark()))

    def append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise DataError("it appends to something that is no list")
        for item in items:
            if not isinstance(item, (int, bytes, str)):
                raise DataError("it has a list of something else than integers and text")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise DataError("it sets items of something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (bytes, str)):
                raise DataError("it has a dictionary whose keys are no text")
            if not (value is None or isinstance(value, (int, bytes, str, list, _Array))):
                raise DataError("it nests something else than lists and arrays in its dictionary")
            target[key] = value

    def refer(self, module: Any, name: Any) -> None:
        known = None
        if isinstance(module, str) and isinstance(name, str):
            known = _GLOBALS.get((module, name))
        if known is None:
            raise DataError(f"it refers to {str(module)[:80]}.{str(name)[:80]}")
        self._stack.append(_Global(known))

    def refer_by_lines(self) -> None:
        self.refer(self._line(), self._line())

    def refer_by_stack(self) -> None:
        name, module = self._pop(), self._pop()
        self.refer(module, name)

    def reduce(self) -> None:
        """Stand in for a call: three functions are known, and none is called."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise DataError("it calls something that is no function")
        if function.name == "reconstruct" and arguments[:1] == (_Global("ndarray"),):
            self._stack.append(_Array())
        elif function.name == "dtype" and arguments[:1] in (("u1",), (b"u1",)):
            self._stack.append(_Dtype())
        elif function.name == "frombuffer" and len(arguments) == 4:
            buffer, dtype, shape, order = arguments
            array = _Array()
            array.value = _array(buffer, dtype, shape, order in ("F", b"F"))
            self._stack.append(array)
        elif function.name == "encode" and arguments[1:] in ((), ("latin1",), (b"latin1",)):
            self._stack.append(self._encode(*arguments[:1]))
        else:
            raise DataError("it holds an array of something else than unsigned bytes")

    def _encode(self, text: Any = None) -> bytes:
        if not isinstance(text, str):
            raise DataError("it encodes something that is no text")
        # Writers encode each text once: together they are no longer than the file.
        self._encoded += len(text)
        if self._encoded > len(self._content):
            raise DataError("it unpacks to more than it holds")
        try:
            return text.encode("latin1")
        except UnicodeEncodeError:
            raise DataError("it is damaged: bytes beyond 255") from None

    def build(self) -> None:
        """Fill an array, or confirm that a dtype is the one of unsigned bytes."""
        state, target = self._pop(), self._stack[-1]
        if isinstance(target, _Array) and target.value is None:
            if not isinstance(state, tuple) or len(state) != 5:
                raise DataError("it has an array that is not described as NumPy does")
            _, shape, dtype, fortran, raw = state
            target.value = _array(raw, dtype, shape, bool(fortran))
        elif not isinstance(target, _Dtype) or not _is_bytes_state(state):
            raise DataError("it changes something else than an array of unsigned bytes")


def _flat_tuple(items: list[Any]) -> tuple[Any, ...]:
    """Return a tuple of scalars, marks of NumPy's and at most shapes: nothing that could grow."""
    for item in items:
        if isinstance(item, tuple) and not isinstance(item, _Global):
            if len(item) > 4 or not all(isinstance(size, int) for size in item):
                raise DataError("it nests tuples")
        elif isinstance(item, (list, dict, _Array)):
            raise DataError("it nests lists in tuples")
    return tuple(items)


def _is_bytes_state(state: Any) -> bool:
    """Tell whether a dtype's state is the one that NumPy writes for unsigned bytes."""
    return (
        isinstance(state, tuple)
        and len(state) == 8
        and state[1] in ("|", b"|")
        and state[0] == 3
        and state[2:] == (None, None, None, -1, -1, 0)
    )


def _array(raw: Any, dtype: Any, shape: Any, fortran: bool) -> "np.ndarray[Any, Any]":
    if not isinstance(raw, bytes) or not isinstance(dtype, _Dtype):
        raise DataError("it holds an array of something else than unsigned bytes")
    if not isinstance(shape, tuple) or isinstance(shape, _Global) or not 1 <= len(shape) <= 4:
        raise DataError("it has an array whose shape is no tuple of 1 to 4 sizes")
    if not all(type(size) is int and 0 <= size <= len(raw) for size in shape):
        raise DataError("it has an array whose shape does not fit its bytes")
    if math.prod(shape) != len(raw):
        raise DataError(f"it has an array of shape {shape} with {len(raw)} bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _key(key: bytes | str) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else key


def _filled(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise DataError("it has an array without content")
    return value.value


#: Instructions by the byte that calls them; names and forms as in Python's ``pickletools``.
_CODES: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.proto,
    0x95: _Machine.frame,
    ord("("): _Machine.mark,
    ord("0"): _Machine.pop,
    ord("q"): lambda m: m.put(m._number("B")),
    ord("r"): lambda m: m.put(m._number("I")),
    0x94: lambda m: m.put(len(m._memo)),
    ord("h"): lambda m: m.get(m._number("B")),
    ord("j"): lambda m: m.get(m._number("I")),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m._number("B")),
    ord("M"): lambda m: m.push(m._number("H")),
    ord("J"): lambda m: m.push(m._number("i")),
    0x8A: _Machine.long,
    ord("U"): lambda m: m.push(m._bytes(m._number("B"))),
    ord("T"): lambda m: m.push(m._bytes(m._number("I"))),
    ord("C"): lambda m: m.push(m._bytes(m._number("B"))),
    ord("B"): lambda m: m.push(m._bytes(m._number("I"))),
    0x8E: lambda m: m.push(m._bytes(m._number("Q"))),
    0x96: lambda m: m.push(m._bytes(m._number("Q"))),
    0x8C: lambda m: m.push(m._text("B")),
    ord("X"): lambda m: m.push(m._text("I")),
    0x8D: lambda m: m.push(m._text("Q")),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("t"): _Machine.tuple_to_mark,
    ord("a"): lambda m: m.append([m._pop()]),
    ord("e"): lambda m: m.append(m._pop_to_mark()),
    ord("s"): lambda m: m.set_items([m._pop(), m._pop()][::-1]),
    ord("u"): lambda m: m.set_items(m._pop_to_mark()),
    ord("c"): _Machine.refer_by_lines,
    0x93: _Machine.refer_by_stack,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
}
