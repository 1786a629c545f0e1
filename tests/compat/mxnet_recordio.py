"""gpuio.recordio against the real mxnet.recordio, call by call and byte by byte.

    python tests/compat/mxnet_recordio.py /path/to/python-with-mxnet

The same calls are made in both interpreters. What they return or raise and the files they leave
must be the same, and each reads what the other wrote. Not collected by pytest: it needs MXNet
1.9.1, which in turn needs an old NumPy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import pickle
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MAGIC = struct.pack("<I", 0xCED7230A)

# What MXNet says where gpuio differs on purpose; see the docstring of gpuio.recordio.
DIFFERENCES = {
    "a bytearray": ("TypeError", "None"),
    "read_idx after the end": ("None", "b'a'"),
    "read_idx after close": ("b'\\n#\\xd7\\xce'", "RuntimeError"),
    "a reader that was pickled": ("False", "True"),
    "records of an unpickled writer": ("['d']", "['c', 'd']"),
    "a missing file": ("MXNetError", "FileNotFoundError"),
    "a magic of zeros": ("MXNetError", "CorruptRecordError"),
    "a payload cut short": ("MXNetError", "CutOffError"),
    "padding cut short": ("MXNetError", "CutOffError"),
    "seven bytes": ("MXNetError", "CutOffError"),
    "a first part alone": ("None", "CutOffError"),
    "a last part alone": ("b'a'", "CorruptRecordError"),
    "a spaced index": ("ValueError", "[0]"),
    "a junk index": ("ValueError", "FormatError"),
    "an index with a blank line": ("ValueError", "[0]"),
    "unpack of too little": ("error", "HeaderError"),
    "unpack of too few labels": ("ValueError", "FormatError"),
}


def payloads() -> list[bytes]:
    """Records of all lengths and with magics everywhere."""
    choose = random.Random(0)
    words = [MAGIC, MAGIC, MAGIC[:2], b"a", b"bc", b"defg", b"\0"]
    short = [b"".join(choose.choices(words, k=choose.randrange(12))) for _ in range(500)]
    edges = [b"", b"a", MAGIC, b"ab" + MAGIC, b"abcd" + MAGIC + b"xy", 2 * MAGIC]
    return [*edges, *short, choose.randbytes(100_000)]


def packed(recordio) -> list[bytes]:
    """`pack` with all kinds of labels."""
    labels = [3, 2.5, True, np.float32(1.25), np.int64(7), [], [1], [1, 2.5], (3, 4)]
    labels += [
        np.bool_(True),
        np.array(5.0),
        np.arange(6.0).reshape(2, 3),
        np.arange(3, dtype=np.uint8),
    ]
    header = recordio.IRHeader
    many = [recordio.pack(header(9, x, 2**63, 5), b"image") for x in labels]
    return [*many, recordio.pack((0, 1.0, 2, 3), b"")]


def write(recordio, folder: Path) -> None:
    """A file of each kind."""
    plain = recordio.MXRecordIO(str(folder / "plain.rec"), "w")
    for payload in payloads():
        plain.write(payload)
    plain.close()
    paths = str(folder / "packed.idx"), str(folder / "packed.rec")
    indexed = recordio.MXIndexedRecordIO(*paths, "w")
    records = packed(recordio)
    for key in random.Random(1).sample(range(len(records)), len(records)):
        indexed.write_idx(key, records[key])
    indexed.close()
    named = recordio.MXIndexedRecordIO(
        str(folder / "named.idx"), str(folder / "named.rec"), "w", key_type=str
    )
    for payload in payloads()[:20]:
        named.write_idx(f"key{len(named.keys)}", payload)
    named.close()


def read(recordio, folder: Path) -> dict[str, object]:
    """All that can be read from the files of `write`."""
    plain = recordio.MXRecordIO(str(folder / "plain.rec"), "r")
    records = list(iter(plain.read, None))
    indexed = recordio.MXIndexedRecordIO(
        str(folder / "packed.idx"), str(folder / "packed.rec"), "r"
    )
    named = recordio.MXIndexedRecordIO(
        str(folder / "named.idx"), str(folder / "named.rec"), "r", key_type=str
    )
    unpacked = [recordio.unpack(indexed.read_idx(key)) for key in indexed.keys]
    return {
        "plain": [hashlib.sha256(record).hexdigest() for record in records],
        "keys": list(indexed.keys),
        "idx": list(indexed.idx.items()),
        "unpacked": [(repr(header), repr(rest)) for header, rest in unpacked],
        "named": [(key, repr(named.read_idx(key))) for key in named.keys],
    }


def outcome(call, *args, **kwargs) -> str:
    """What a call returns, or the name of what it raises."""
    try:
        return repr(call(*args, **kwargs))
    except Exception as error:
        return type(error).__name__


def in_child(call) -> str:
    """The outcome of a call in a forked child."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(outcome(call)))
    child.start()
    answer = mine.recv() if mine.poll(30) else "no answer"
    child.join()
    return answer


def behave(recordio, folder: Path) -> dict[str, str]:
    """What MXNet does at the edges, by name."""
    rec, idx = str(folder / "b.rec"), str(folder / "b.idx")
    seen: dict[str, str] = {}

    def see(name, call, *args, **kwargs) -> None:
        seen[name] = outcome(call, *args, **kwargs)

    for flag in ("rb", "a", "", "r+"):
        see(f"flag {flag!r}", recordio.MXRecordIO, rec, flag)
    see("a missing file", recordio.MXRecordIO, str(folder / "none.rec"), "r")
    writer = recordio.MXIndexedRecordIO(idx, rec, "w")
    for value in ("text", None, bytearray(b"a")):
        name = "a bytearray" if isinstance(value, bytearray) else f"write of {value!r}"
        see(name, writer.write, value)
    writer.reset()
    for key, value in ((0, b"a"), (5, b""), (2, MAGIC)):
        see(f"tell before {key}", writer.tell)
        see(f"write_idx {key}", writer.write_idx, key, value)
    see("read of a writer", writer.read)
    see("seek of a writer", writer.seek, 0)
    see("write in a child", in_child, lambda: writer.write(b"x"))
    see("keys of a writer", lambda: list(writer.keys))
    see("idx of a writer", lambda: dict(writer.idx))
    writer.close()
    see("close twice", writer.close)
    see("write after close", writer.write, b"x")
    see("pid after close", lambda: writer.pid)
    see("is_open after close", lambda: writer.is_open)

    see("a missing index", recordio.MXIndexedRecordIO, str(folder / "none.idx"), rec, "r")
    reader = recordio.MXIndexedRecordIO(idx, rec, "r")
    see("write to a reader", reader.write, b"x")
    see("tell of a reader", reader.tell)
    see("read", reader.read)
    see("empty record", reader.read)
    see("magic record", reader.read)
    see("read at the end", reader.read)
    see("read at the end again", reader.read)
    see("read_idx after the end", reader.read_idx, 0)
    reader.reset()
    see("read after reset", reader.read)
    see("read_idx", reader.read_idx, 5)
    see("read after read_idx", reader.read)
    see("seek", reader.seek, 0)
    see("read after seek", reader.read)
    see("unknown key", reader.read_idx, 1)
    see("unknown kind of key", reader.read_idx, "0")
    see("key of numpy", reader.read_idx, np.int32(2))
    see("key in", lambda: (0 in reader.idx, 1 in reader.idx, len(reader.idx)))
    see("idx is a dict", lambda: reader.idx == {0: 0, 5: 12, 2: 20})
    see("keys is a list", lambda: (reader.keys == [0, 5, 2], reader.keys[-1], reader.keys[1:]))
    see("read in a child", in_child, reader.read)
    see("read_idx in a child", in_child, lambda: reader.read_idx(2))
    see("read after seek in a child", in_child, lambda: (reader.seek(5), reader.read()))
    see("read after reset in a child", in_child, lambda: (reader.reset(), reader.read()))
    reader.reset()
    reader.read()
    copy = pickle.loads(pickle.dumps(reader))
    see("a reader that was pickled", lambda: reader.is_open)
    see("an unpickled reader", copy.read)
    see("keys of an unpickled reader", lambda: list(copy.keys))
    copy.close()
    see("read after close", copy.read)
    see("read_idx after close", copy.read_idx, 2)

    writer = recordio.MXRecordIO(rec, "w")
    writer.write(b"c")
    copy = pickle.loads(pickle.dumps(writer))
    see("a writer that was pickled", lambda: writer.is_open)
    copy.write(b"d")
    copy.close()
    see(
        "records of an unpickled writer",
        lambda: [x.decode() for x in iter(recordio.MXRecordIO(rec, "r").read, None)],
    )

    whole = MAGIC + struct.pack("<I", 1) + b"a\0\0\0"
    damaged = {
        "an empty file": b"",
        "seven bytes": whole[:7],
        "a magic of zeros": bytes(12),
        "a payload cut short": whole[:8],
        "padding cut short": whole[:10],
        "a first part alone": MAGIC + struct.pack("<I", 1 << 29),
        "a last part alone": MAGIC + struct.pack("<I", 3 << 29 | 1) + b"a\0\0\0",
    }
    for name, content in damaged.items():
        Path(rec).write_bytes(content)
        see(name, lambda: recordio.MXRecordIO(rec, "r").read())
    Path(rec).write_bytes(whole * 2)
    indexes = {
        "a spaced index": "0 0\n",
        "a junk index": "zero\t0\n",
        "an index with a blank line": "0\t0\n\n",
        "an index without a last newline": "0\t0\n1\t12",
        "an index with CRLF": "0\t0\r\n1\t12\r\n",
        "repeated keys": "7\t0\n7\t12\n",
    }
    for name, text in indexes.items():
        Path(idx).write_text(text, newline="")
        see(name, lambda: list(recordio.MXIndexedRecordIO(idx, rec, "r").keys))
    see("idx of repeated keys", lambda: dict(recordio.MXIndexedRecordIO(idx, rec, "r").idx))

    see("unpack of too little", recordio.unpack, b"abc")
    see("unpack of too few labels", recordio.unpack, struct.pack("<IfQQ", 2, 0, 0, 0) + b"abcd")
    see("a label of text", recordio.pack, (0, "x", 0, 0), b"")
    see("a negative id", recordio.pack, (0, 1, -1, 0), b"")
    see("too large an id", recordio.pack, (0, 1, 2**64, 0), b"")
    see("a header of three", recordio.pack, (0, 1, 2), b"")
    see("data of text", recordio.pack, (0, 1, 2, 3), "text")

    def pack_img(pixels):
        return recordio.pack_img((0, 1, 2, 3), pixels, 3, ".png")

    def digest(unpacked):
        return unpacked[1].shape, hashlib.sha256(unpacked[1].tobytes()).hexdigest()

    unpack_img = recordio.unpack_img
    image = np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)
    for name, pixels in (("color", image), ("gray", image[:, :, 0])):
        see(f"header before {name}", lambda x: pack_img(x)[:24], pixels)
        for flag in (-1, 0, 1):
            see(
                f"{name} as {flag}", lambda x, to: digest(unpack_img(pack_img(x), to)), pixels, flag
            )
    see("no image", lambda: recordio.unpack_img(recordio.pack((0, 1, 2, 3), b"junk"))[1])
    return seen


def run(recordio, name: str, folder: Path) -> None:
    """One side: write, behave, and read the other's files once they are there."""
    mine = folder / name
    if not mine.exists():
        mine.mkdir()
        write(recordio, mine)
        scratch = folder / f"{name}-scratch"
        scratch.mkdir()
        (folder / f"{name}.behave.json").write_text(json.dumps(behave(recordio, scratch)))
    for writer in ("gpuio", "mxnet"):
        if (folder / writer).exists():
            seen = json.dumps(read(recordio, folder / writer))
            (folder / f"{writer}-read-by-{name}.json").write_text(seen)


def compare(folder: Path) -> list[str]:
    """What is not the same."""
    wrong = [
        f"{path.name}: the files differ"
        for path in sorted((folder / "mxnet").iterdir())
        if path.read_bytes() != (folder / "gpuio" / path.name).read_bytes()
    ]
    seen = [
        (folder / f"{writer}-read-by-{reader}.json").read_text()
        for writer in ("gpuio", "mxnet")
        for reader in ("gpuio", "mxnet")
    ]
    if len(set(seen)) > 1:
        wrong.append("the files read differently")
    expected, found = (
        json.loads((folder / f"{name}.behave.json").read_text()) for name in ("mxnet", "gpuio")
    )
    for name in expected:
        want = DIFFERENCES.get(name, (expected[name], expected[name]))
        got = (expected[name], found.get(name, "nothing"))
        if want != got:
            wrong.append(f"{name}: {got[0]} in MXNet, {got[1]} in gpuio, expected {want}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="interpreter that can import mxnet")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        np.bool = bool  # MXNet 1.9.1 still asks for it
        sys.unraisablehook = lambda _: None  # its destructors fail after a failed open
        from mxnet import recordio

        run(recordio, "mxnet", arguments.inside)
        return 0
    from gpuio import recordio

    with tempfile.TemporaryDirectory() as folder:
        run(recordio, "gpuio", Path(folder))
        command = [arguments.python, __file__, arguments.python, "--inside", folder]
        subprocess.run(command, check=True)
        run(recordio, "gpuio", Path(folder))
        wrong = compare(Path(folder))
        count = len(json.loads((Path(folder) / "mxnet.behave.json").read_text()))
    print("\n".join(wrong) or f"{count} behaviours and all files agree")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
