"""``numpy.ndarray`` and ``fairlead.v1.Tensor``. NumPy is imported only where a class has a hint for an array."""

from __future__ import annotations

import math
import typing
from typing import Any

from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.shapes import Imported
from fairlead.v1 import tensor_pb2

_TYPES = {
    tensor_pb2.DataType.Value(f"DATA_TYPE_{name.upper()}"): name
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}
"""The names of NumPy's types."""
_NUMBERS = {name: number for number, name in _TYPES.items()}
_MOST_DIMENSIONS = 64


def is_array(hint: Any) -> bool:
    """Whether a hint means an array of NumPy's, of whatever elements."""
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and kind.__module__ == "numpy" and kind.__name__ == "ndarray"


def tensor(hint: Any, where: str) -> Imported:
    """The tensor that an array's hint asks for. Raises HintError for elements that are no numbers."""
    name = _element_name(hint, where)
    return Imported(
        name="fairlead.v1.Tensor",
        file="fairlead/v1/tensor.proto",
        decode=_decoder(name),
        encode=_encoder(name),
        note=name or "",
    )


def _element_name(hint: Any, where: str) -> str | None:
    """NumPy's name of the elements that a hint asks for; None: of any."""
    arguments = typing.get_args(hint)
    element = next(iter(typing.get_args(arguments[-1])), Any) if arguments else Any
    element = typing.get_origin(element) or element
    import numpy as np

    if element is Any or isinstance(element, typing.TypeVar) or element in (np.generic, np.number):
        return None
    found = np.dtype(element) if element in np.sctypeDict.values() else None
    if found is None or found.name not in _NUMBERS:
        name = getattr(element, "__name__", element)
        fix = f"Write numpy.typing.NDArray[numpy.float32], or another of {', '.join(_NUMBERS)}"
        raise HintError(where, f"a tensor cannot hold elements of {name}", fix)
    return found.name


def _decoder(wanted: str | None) -> Any:
    def decode(message: Any) -> Any:
        """A view of the message's bytes, read-only: nothing is copied unless elements have to be converted."""
        import numpy as np

        name = _TYPES.get(message.data_type)
        if name is None:
            raise ValueError("a tensor needs a data_type that this version knows")
        shape = tuple(message.shape)
        dtype = np.dtype(name).newbyteorder("<")
        data = message.data
        if len(shape) > _MOST_DIMENSIONS or any(length < 0 for length in shape):
            raise ValueError(f"a tensor has at most {_MOST_DIMENSIONS} dimensions, none of them negative")
        if math.prod(shape) * dtype.itemsize != len(data):
            text = " x ".join(map(str, shape)) or "no dimension"
            raise ValueError(
                f"{text} of {name} are {math.prod(shape) * dtype.itemsize} bytes, and there are {len(data)}"
            )
        if name == "bool" and data.strip(b"\x00\x01"):
            raise ValueError("a tensor of bool has bytes of 0 and 1 only")
        array = np.frombuffer(data, dtype).reshape(shape)
        if wanted is None or name == wanted:
            return array
        if not np.can_cast(dtype, wanted, "safe"):
            raise ValueError(f"expected a tensor of {wanted}, which {name} does not always fit into")
        return array.astype(wanted)

    return decode


def _encoder(wanted: str | None) -> Any:
    def encode(message: Any, value: Any) -> None:
        import numpy as np

        if not isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"expected a NumPy array, got {type(value).__name__}")
        array = np.asarray(value)
        if wanted is not None and array.dtype.name != wanted:
            # Floats may lose digits on their way; integers must not turn into others.
            rule: Any = "same_kind" if array.dtype.kind in "fc" else "safe"
            if not np.can_cast(array.dtype, wanted, rule):
                raise ValueError(f"expected an array of {wanted}, got one of {array.dtype.name}")
            array = array.astype(wanted)
        number = _NUMBERS.get(array.dtype.name)
        if number is None:
            raise ValueError(f"a tensor cannot hold elements of {array.dtype.name}")
        message.data_type = number
        message.shape.extend(array.shape)
        message.data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()

    return encode
