#!/usr/bin/env python3
"""Makes the shipped demo trace from a recorded one: all query rows, but the attention mass of a few rows only.

The rows kept are those that ask for a needle, then rows spread evenly over the others. Standard library only.

    python3 scripts/make_demo_trace.py --source FILE [--output FILE] [--mass-rows 16]
"""

import argparse
import json
import os
import pathlib
import struct
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "profiles" / "traces" / "learned-32k-h64.safetensors"
LIMIT = 6_000_000  # bytes: what a repository can carry
BITS = {"F32": 32, "I32": 32, "F16": 16, "F8_E4M3": 8}
NOTE = (
    "recorded from a small model that was trained for this purpose, not from DeepSeek's: "
    "use it to try things out, not to judge DeepSeek-V3.2"
)


def read(path):
    """The metadata, and {name: (dtype, shape, bytes)}."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    body = memoryview(data)[8 + length :]
    return metadata, {
        name: (entry["dtype"], entry["shape"], bytes(body[slice(*entry["data_offsets"])]))
        for name, entry in header.items()
    }


def write(path, metadata, tensors):
    """The order and padding of core/workload/safetensors.cpp: widest elements first, then names."""
    header = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    order = sorted(tensors, key=lambda name: (-BITS[tensors[name][0]], name))
    for name in order:
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(tensors[name][2])
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def integers(tensor):
    dtype, _, data = tensor
    assert dtype == "I32", dtype
    return struct.unpack(f"<{len(data) // 4}i", data)


def choose_rows(positions, needles, columns, count):
    """Rows that ask for a needle first, then rows spread evenly over the rest."""
    questions = [(needles[i + 2], needles[i + 2] + needles[i + 3]) for i in range(0, len(needles), columns)]
    asking = [row for row, p in enumerate(positions) if any(begin <= p < end for begin, end in questions)][:count]
    others = [row for row in range(len(positions)) if row not in asking]
    left = count - len(asking)
    spread = [others[(2 * i + 1) * len(others) // (2 * left)] for i in range(left)] if left > 0 else []
    return sorted(asking + spread)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    parser.add_argument("--mass-rows", type=int, default=16)
    options = parser.parse_args()

    metadata, tensors = read(options.source)
    rows = choose_rows(integers(tensors["q_pos"]), integers(tensors["needle"]), tensors["needle"][1][1],
                       options.mass_rows)
    dtype, (_, tokens), mass = tensors["attention_mass"]
    stride = tokens * BITS[dtype] // 8
    kept = b"".join(mass[row * stride : (row + 1) * stride] for row in rows)
    tensors["attention_mass"] = (dtype, [len(rows), tokens], kept)
    tensors["attention_mass_row"] = ("I32", [len(rows)], struct.pack(f"<{len(rows)}i", *rows))
    metadata.update(derived_from=options.source.name, note=NOTE)
    write(options.output, metadata, tensors)

    size = options.output.stat().st_size
    print(f"{options.output.name}: {size} bytes, attention mass of the rows {rows}")
    if size > LIMIT:
        sys.exit(f"{size} bytes, at most {LIMIT} may be shipped; try: --mass-rows {len(rows) - 1}")


if __name__ == "__main__":
    main()
