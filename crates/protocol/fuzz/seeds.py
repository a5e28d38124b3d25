"""Writes the vectors of ../testdata as files, for the fuzz targets to begin with: seeds.py TARGET DIRECTORY"""

import json
import pathlib
import struct
import sys

target, directory = sys.argv[1], pathlib.Path(sys.argv[2])
testdata = pathlib.Path(__file__).parent.parent / "testdata"
suffix = {"frames": "Request", "requests": "Request", "responses": "Response"}[target]
# The targets count the APIs that are there, and four numbers are retired.
index = lambda key: key if key < 4 else key - 4

for path in sorted(testdata.glob(f"api*/*{suffix}.jsonl")):
    for line in path.read_text().splitlines():
        vector = json.loads(line)
        key, version, body = vector["key"], vector["version"], bytes.fromhex(vector["hex"])
        if target == "frames":
            header = struct.pack(">hhih", key, version, 7, -1) + (b"\0" if vector["header"] == 2 else b"")
            seed = struct.pack(">i", len(header) + len(body)) + header + body
        else:
            seed = bytes([index(key), version]) + body
        name = f"{path.stem}-{version}"
        if len(seed) < 4096:
            # The last one of a version is the fullest that fits.
            (directory / name).write_bytes(seed)
