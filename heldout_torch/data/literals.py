"""The plain values in a pickle, read without unpickling.

CIFAR's batches and NumPy's object arrays are pickles, and unpickling a file can run whatever its author liked. Here
the stream of instructions is only looked at: numbers, strings and bytes are taken in their order, everything else
(names of classes, calls, memos) is passed over, and nothing is ever looked up, called or built.
"""

import pickletools

import numpy as np

from heldout_torch.errors import DataError

Literal = bool | int | float | str | bytes

_BOOLS = {"NEWTRUE": True, "NEWFALSE": False}
_VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"}
_VALUES |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_VALUES |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT"}


def read_literals(pickled: bytes, name: str) -> list[Literal]:
    """Return the values in a pickle, in the order of the stream.

    A value that the stream repeats by reference is given only once, so callers check how many they got.

    Args:
        pickled: The pickle, of protocol 0 to 4 (5 may keep arrays in another form, which is passed over).
        name: What errors call it.

    Returns:
        Python 2 strings, which are bytes in truth, come as str with one character a byte; see `as_bytes`.

    Raises:
        DataError: If it is not a pickle.
    """
    values: list[Literal] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if argument is not None and opcode.name in _VALUES:
                values.append(argument)
            elif opcode.name in _BOOLS:
                values.append(_BOOLS[opcode.name])
    except ValueError as error:
        raise DataError(f"{name}: is not a readable pickle ({error})") from None
    return values


def as_bytes(value: Literal) -> bytes | None:
    """Return the bytes of a string or bytes value; None if it is neither."""
    if isinstance(value, str):
        try:
            return value.encode("latin-1")  # how Python 3 reads Python 2's strings, and pickles bytes in protocol 2
        except UnicodeEncodeError:
            return None
    return value if isinstance(value, bytes) else None


def read_file_names(pickled: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return the names of image files in the pickle of an array of Python objects, as a row of bytes, in order.

    Args:
        pickled: The pickle.
        shape: The array's.
        name: What errors call the file.

    Raises:
        DataError: If it is not a pickle, or has another number of names.
    """
    texts = [as_bytes(value) for value in read_literals(pickled, name)]
    # The pickle also holds names of NumPy's own; only files end so.
    names = [text for text in texts if text is not None and text.upper().endswith(b".JPEG")]
    if shape != (len(names),):
        raise DataError(f"{name}: an array of shape {shape} holds {len(names)} names that end in .JPEG")
    return np.array(names, np.bytes_)
