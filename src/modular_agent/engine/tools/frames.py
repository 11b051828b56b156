"""Frames between the server and its worker processes: four bytes of length (big-endian), then JSON."""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import orjson

__all__ = ["LENGTH", "MAXIMUM", "FrameTooLarge", "decode_exactly", "encode", "read", "size_of"]

LENGTH: Final = struct.Struct(">I")
MAXIMUM: Final = 64 * 1024 * 1024  # bytes of one frame


class FrameTooLarge(ValueError):
    """A frame of more bytes than `MAXIMUM`."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of `message`, integers of any size included. Raises `TypeError` for what is not JSON."""
    try:
        body = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        body = json.dumps(message).encode()
    if len(body) > MAXIMUM:
        raise FrameTooLarge(f"{len(body)} bytes, at most {MAXIMUM} are allowed")
    return LENGTH.pack(len(body)) + body


def decode_exactly(body: bytes) -> dict[str, Any]:
    """The message of a frame's body, with integers of any size exact."""
    return json.loads(body)


def size_of(head: bytes) -> int:
    """The bytes of the body that follow `head`. Raises `FrameTooLarge`."""
    (size,) = LENGTH.unpack(head)
    if size > MAXIMUM:
        raise FrameTooLarge(f"{size} bytes, at most {MAXIMUM} are allowed")
    return size


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None at the end of the stream. Blocks."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = stream.read(size)
    return decode_exactly(body) if len(body) == size else None
