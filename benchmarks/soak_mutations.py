"""Mutations of `soak.py files`: each is a function (rng, content) -> content.

Mutations of bytes fit any file. The others parse a file by its format, falsify one place, and
write it again with valid checksums, so that the reader gets as far as the false value.
"""

import ast
import gzip
import io
import json
import pickle
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

Mutation = Callable[[random.Random, bytes], bytes]

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62)
SHAPES = (
    (), (0,), (-1,), (10**12,), (2**31, 2**31), (2**63,), (10**40,), (3, -2), (0, 10**15),
    (1, 1, 1), (True, 2), (9, 28, 28), (5, 8, 8, 7), (2000, 1), (1,) * 33, (1,) * 65,
    (40, 28, 28, 1, 1),
)  # fmt: skip
DTYPES = (
    "|O", "<f2", "<f8", ">f4", "<i4", ">i8", "|u1", "|i1", "|b1", "<U3", "|S9", "|V5", "<M8[s]",
    "<c8", "<f16", "<U1000000000", "|S0", "x", [("a", "<f4"), ("b", "|O")],
)  # fmt: skip
JSON_VALUES = (
    None, True, -1, 0, 1, 2, 10**12, 10**400, 0.5, -1.0, 1e308, float("nan"), float("inf"), "", "x",
    "../../etc/passwd", "\0", "\ud800", "</script>", [], [1], [10**9, 1], [[[]]], {}, {"a": {}},
    "vade", "vae", "vae-gmm", "mlp", "patches", "gaussian", "state", "model", "a" * 10_000,
)  # fmt: skip
NUMBERS = (np.nan, np.inf, -np.inf, 1e38, -1e38, 3.4e38)
BOMB_BYTES = 300 << 20
PNG_START = b"\x89PNG\r\n\x1a\n"


class Payload:
    """Code that a pickle would run if anything loaded it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("EXECUTED", "w"))


def flip(rng: random.Random, content: bytes) -> bytes:
    """Flip a few bits, mostly in headers."""
    changed = bytearray(content)
    marks = [found.start() for found in re.finditer(rb"PK|NUMPY|IHDR|\xff[\xc0-\xfe]", content)]
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        start = rng.choice((0, rng.choice(marks or [0]), rng.randrange(len(content))))
        place = min(len(content) - 1, start + int(rng.expovariate(1 / 40)))
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.choice((0, rng.randrange(64), rng.randrange(len(content))))]


def splice(rng: random.Random, content: bytes) -> bytes:
    """Delete, repeat, overwrite or move a range of bytes."""
    start, other = sorted(rng.randrange(len(content)) for _ in range(2))
    length = min(int(rng.expovariate(1 / 60)) + 1, len(content) - start)
    piece = content[start : start + length]
    return rng.choice((
        content[:start] + content[start + length :],
        content[:start] + piece + content[start:],
        content[:start] + rng.randbytes(length) + content[start + length :],
        content[:start] + content[other:] + piece,
        content + content,
    ))  # fmt: skip


def extreme(rng: random.Random, content: bytes) -> bytes:
    """Make a number extreme in the first or last bytes, or near a marker."""
    marks = [found.start() for found in re.finditer(rb"PK|IHDR|\xff[\xc0-\xfe]", content)]
    start = rng.choice((0, max(0, len(content) - 60), rng.choice(marks or [0])))
    place = min(len(content) - 1, start + rng.randrange(60))
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(EXTREMES) % (1 << 8 * size)
    packed = value.to_bytes(size, rng.choice(("little", "big")))
    return content[:place] + packed + content[place + size :]


BYTES: tuple[Mutation, ...] = (flip, flip, cut, splice, extreme)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def npy_header(rng: random.Random, content: bytes) -> bytes:
    """Change the header of an .npy in a form that NumPy still reads."""
    if content[:6] != b"\x93NUMPY":
        return flip(rng, content)
    length = int.from_bytes(content[8:10], "little")
    header, body = ast.literal_eval(content[10 : 10 + length].decode()), content[10 + length :]
    change = rng.randrange(7)
    if change <= 1:
        header["shape"] = rng.choice(SHAPES)
    elif change <= 3:
        header["descr"] = rng.choice(DTYPES)
    elif change == 4:
        header["fortran_order"] = rng.choice((True, 1, "x"))
    elif change == 5:
        body = body[: len(body) // 2] if rng.random() < 0.5 else body + bytes(99)
    text = repr(header)
    if change == 6:
        nested = rng.choice(("[" * 3000, "(" * 300 + ")" * 300, "-" * 5000 + "1", "{1:" * 90, "\\"))
        text = rng.choice((nested, text[:-1] + f", 'x': {nested}}}", text[:-3], text + "L", "\0"))
    encoded = text.encode() + b" " * (-len(text) % 64) + b"\n"
    version = rng.choice((1, 1, 1, 1, 2, 3, 9))
    size = len(encoded).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + encoded + body


def pickled(rng: random.Random, content: bytes) -> bytes:
    """Return an array of objects, or a pickle, that would write a file if it were loaded."""
    if rng.random() < 0.3:
        return pickle.dumps(Payload())
    array = np.empty(3, object)
    array[:] = [Payload()] * 3
    return npy(array)


def numbers(rng: random.Random, content: bytes) -> bytes:
    """Make one value of an array of floats NaN, infinite or too large."""
    if content[:6] != b"\x93NUMPY":
        return content
    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if array.dtype.kind != "f" or not array.size:
        return npy_header(rng, content)
    array = array.copy()
    array.flat[rng.randrange(array.size)] = rng.choice(NUMBERS)
    return npy(array)


def in_json(rng: random.Random, content: bytes) -> bytes:
    """Change or delete a value or a name in a JSON text, or make it invalid JSON."""
    if rng.random() < 0.1:
        depth = rng.choice((100, 5000, 200_000))
        nested = (b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth)
        return rng.choice((*nested, b"\xff", b""))
    root = json.loads(content)
    place = root
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = rng.choice(keys)
        if isinstance(place[key], (dict, list)) and rng.random() < 0.8:
            place = place[key]
            continue
        change = rng.randrange(5)
        if change == 0:
            del place[key]
        elif change == 1 and isinstance(place, dict):
            place[rng.choice(("x", "__class__", "K", "../x", ""))] = place.pop(key)
        elif change == 2:
            place[key] = json.loads(json.dumps(root))
        else:
            place[key] = rng.choice(JSON_VALUES)
        break
    return json.dumps(root).encode()


CONFIG = "__config__.npy"


def in_npz(rng: random.Random, content: bytes) -> bytes:
    """Change, rename or duplicate one member of an .npz."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    names = [name for name, _ in members]
    has_config = CONFIG in names
    at = names.index(CONFIG) if has_config and rng.random() < 0.4 else rng.randrange(len(names))
    name, member = members[at]
    method = zipfile.ZIP_STORED
    if name == CONFIG and rng.random() < 0.8:
        array = np.lib.format.read_array(io.BytesIO(member))
        members[at] = name, npy(np.frombuffer(in_json(rng, array.tobytes()), np.uint8))
    else:
        change = rng.randrange(12)
        if change <= 3:
            members[at] = name, npy_header(rng, member)
        elif change == 4:
            members[at] = name, pickled(rng, member)
        elif change <= 6:
            members[at] = name, numbers(rng, member)
        elif change == 7:
            others = (f"../../{name}", f"/tmp/../{name}", name[:-4], name + ".npy", "", "a\0b.npy")
            members[at] = rng.choice(others), member
        elif change == 8:
            members.append((rng.choice((name, name[:-4])), rng.choice(members)[1]))
        elif change == 9:
            del members[at]
        elif change == 10:
            members[at] = name, rng.choice((b"", member[:50], rng.choice(members)[1]))
        else:
            if rng.random() < 0.2:
                return bomb(CONFIG if has_config else "images.npy")
            return _zip([*members, ("extra", b"x")], method)
    if rng.random() < 0.2:
        method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    return _zip(members, method)


def _zip(members: list[tuple[str, bytes]], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, member in members:
            archive.writestr(zipfile.ZipInfo(name), member, method, 1)
    return buffer.getvalue()


@cache
def bomb(name: str) -> bytes:
    """Return an archive of 1 MB whose member has 300 MB, while its header tells a small size."""
    member = npy(np.zeros(24, np.uint8)) + bytes(BOMB_BYTES)
    return _zip([(name, member)], zipfile.ZIP_DEFLATED)


def in_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Change the header of a .safetensors, its length or the entry of an array."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    change = rng.randrange(8)
    name = rng.choice([key for key in header if key != "__metadata__"])
    if change == 0:
        return struct.pack("<Q", rng.choice((*EXTREMES, length + 1, length - 1))) + content[8:]
    if change == 1:
        header[name]["shape"] = rng.choice((*SHAPES, [1 << 31] * 3, ["x"], None))
    elif change == 2:
        offsets = header[name]["data_offsets"]
        offsets[rng.randrange(2)] += rng.choice((-(1 << 40), -4, -1, 1, 4, 1 << 40, 1 << 70))
    elif change == 3:
        header[name]["dtype"] = rng.choice(("F16", "F64", "BF16", "U8", "I64", "BOOL", "X", "", 3))
    elif change == 4:
        body = body[: rng.randrange(len(body))]
    elif change == 5:
        value = np.float32(rng.choice(NUMBERS)).tobytes()
        place = 4 * rng.randrange(len(body) // 4)
        body = body[:place] + value + body[place + 4 :]
    elif change == 6 and "__metadata__" in header:
        inner = header["__metadata__"]["mlx_gmvae"].encode()
        header["__metadata__"]["mlx_gmvae"] = in_json(rng, inner).decode("latin-1")
    encoded = in_json(rng, json.dumps(header).encode()) if change == 7 else None
    encoded = encoded or json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


def in_gzip(rng: random.Random, content: bytes) -> bytes:
    """Mutate the compressed content of a .gz, or make it a decompression bomb."""
    if rng.random() < 0.05:
        return gz_bomb()
    plain = gzip.decompress(content)
    return gzip.compress(rng.choice((flip, cut, splice, extreme))(rng, plain), 1)


@cache
def gz_bomb() -> bytes:
    """Return 300 MB of compressed zeros after the header of an IDX file of 24 images."""
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (24, 8, 8))
    return gzip.compress(header + bytes(BOMB_BYTES), 1)


def in_png(rng: random.Random, content: bytes) -> bytes:
    """Change a chunk of a PNG and correct its checksum."""
    if content[:8] != PNG_START:
        return extreme(rng, content)
    if rng.random() < 0.02:
        return png_bomb(rng.choice((9_000, 20_000)))
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    number = 0 if rng.random() < 0.6 else rng.randrange(len(chunks))
    kind, body = chunks[number]
    chunks[number] = kind, rng.choice((flip, extreme))(rng, body or b"\0")
    if rng.random() < 0.2:
        kind = rng.choice((b"PLTE", b"tRNS", b"eXIf", b"zTXt", b"iCCP", b"acTL", b"IEND"))
        chunks.insert(rng.randrange(1, len(chunks) + 1), (kind, rng.randbytes(rng.randrange(99))))
    return PNG_START + b"".join(_chunk(*each) for each in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


@cache
def png_bomb(side: int) -> bytes:
    """Return a small PNG of one-bit black pixels, side x side."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (side + 7) // 8) * side), 9)
    return PNG_START + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
