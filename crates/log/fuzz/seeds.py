"""Writes what the fuzz targets begin with: seeds.py TARGET DIRECTORY. The files are those of the directories in ../testdata that
Apache Kafka has left, and for segments the record sets of tidelog-record too."""

import json
import pathlib
import sys
import tarfile

target, directory = sys.argv[1], pathlib.Path(sys.argv[2])
log = pathlib.Path(__file__).parent.parent
ENDINGS = {
    "segment": ".log",
    "offset_index": ".index",
    "time_index": ".timeindex",
    "transaction_index": ".txnindex",
    "producer_snapshot": ".snapshot",
    "leader_epochs": "leader-epoch-checkpoint",
    "offset_checkpoint": "offset-checkpoint",
    "meta_properties": "meta.properties",
    "partition_metadata": "partition.metadata",
    "clean_shutdown": ".kafka_cleanshutdown",
    "quorum_state": "quorum-state",
    "metadata_snapshot": ".checkpoint",
}
if target in ENDINGS:
    with tarfile.open(log / "testdata/kafka-4.3.1-clean.tar.gz") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(ENDINGS[target]) and 0 < member.size < 20_000:
                (directory / member.name.replace("/", "_")).write_bytes(archive.extractfile(member).read())
if target == "segment":
    for line in (log.parent / "record/testdata/record-sets.jsonl").read_text().splitlines():
        record_set = json.loads(line)
        (directory / record_set["name"]).write_bytes(bytes.fromhex(record_set["hex"]))
if target == "log_directory":
    for how in range(4):
        (directory / f"change-{how}").write_bytes(bytes([0, how, 2, 0, 1] * 3))
