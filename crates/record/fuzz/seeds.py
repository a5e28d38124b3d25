"""Writes the record sets of ../testdata as files, one each, for the fuzz targets to begin with: seeds.py TARGET DIRECTORY"""

import json
import pathlib
import sys

directory = pathlib.Path(sys.argv[2])
testdata = pathlib.Path(__file__).parent.parent / "testdata"
for line in (testdata / "record-sets.jsonl").read_text().splitlines():
    record_set = json.loads(line)
    (directory / record_set["name"]).write_bytes(bytes.fromhex(record_set["hex"]))
