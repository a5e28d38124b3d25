"""The wire protocol by hand, in a few old versions without tagged fields: for what no client library would ever send."""

import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH = 0, 1, 2, 3, 8, 9
FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, API_VERSIONS = 10, 11, 12, 18
DESCRIBE_QUORUM = 55


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number & ~0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def record(value, key=None, delta=0, attributes=0, headers=b"\0"):
    body = bytes([attributes]) + varint(0) + varint(delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += headers
    return varint(len(body)) + body


def batch(records=None, raw=None, crc=None, length=None, **fields):
    """A batch of format 2; every field can be set to something wrong. `raw` stands for the encoded records."""
    records = [record(b"value")] if records is None else records
    now = int(time.time() * 1000)
    f = {
        "base_offset": 0, "leader_epoch": -1, "magic": 2, "attributes": 0, "last_offset_delta": len(records) - 1,
        "base_timestamp": now, "max_timestamp": now, "producer_id": -1, "producer_epoch": -1,
        "base_sequence": -1, "count": len(records), **fields,
    }  # fmt: skip
    checked = struct.pack(">hiqqqhii", f["attributes"], f["last_offset_delta"], f["base_timestamp"], f["max_timestamp"],
                          f["producer_id"], f["producer_epoch"], f["base_sequence"], f["count"])  # fmt: skip
    checked += b"".join(records) if raw is None else raw
    rest = struct.pack(">ibI", f["leader_epoch"], f["magic"], crc32c(checked) if crc is None else crc) + checked
    return struct.pack(">qi", f["base_offset"], len(rest) if length is None else length) + rest


def request(key, version, body=b"", correlation_id=1, client_id="wire"):
    return struct.pack(">hhi", key, version, correlation_id) + string(client_id) + body


def framed(message):
    return struct.pack(">i", len(message)) + message


def api_versions(correlation_id=1):
    return request(API_VERSIONS, 0, correlation_id=correlation_id)


def metadata(topics, correlation_id=1):
    """Version 1; None asks for all topics."""
    names = struct.pack(">i", -1) if topics is None else struct.pack(">i", len(topics)) + b"".join(map(string, topics))
    return request(METADATA, 1, names, correlation_id)


def describe_quorum(correlation_id=1):
    """Of the metadata quorum, in version 0, the first with tagged fields: each struct ends with the number of them."""
    name = b"__cluster_metadata"
    body = bytes([0, 2, len(name) + 1]) + name + bytes([2]) + struct.pack(">i", 0) + bytes(3)
    return request(DESCRIBE_QUORUM, 0, body, correlation_id)


def produce(topic, records, partition=0, acks=-1, version=3, transactional_id=None, correlation_id=1):
    body = string(transactional_id) + struct.pack(">hii", acks, 10_000, 1) + string(topic) + struct.pack(">ii", 1, partition)
    body += struct.pack(">i", -1) if records is None else struct.pack(">i", len(records)) + records
    return request(PRODUCE, version, body, correlation_id)


def fetch(topic, offset=0, partition=0, max_wait_ms=500, min_bytes=1, max_bytes=50 << 20, correlation_id=1):
    """Version 4."""
    body = struct.pack(">iiiibi", -1, max_wait_ms, min_bytes, max_bytes, 0, 1) + string(topic)
    return request(FETCH, 4, body + struct.pack(">iiqi", 1, partition, offset, max_bytes), correlation_id)


class Closed(ConnectionError):
    """The other side has closed the connection."""


class Connection:
    def __init__(self, address, timeout=10):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def receive_bytes(self, count):
        out = bytearray()
        while len(out) < count:
            try:
                part = self.socket.recv(min(count - len(out), 1 << 20))
            except ConnectionResetError:
                raise Closed from None
            if not part:
                raise Closed
            out += part
        return bytes(out)

    def receive(self):
        """One response: its correlation id and what follows."""
        [size] = struct.unpack(">i", self.receive_bytes(4))
        response = self.receive_bytes(size)
        return struct.unpack(">i", response[:4])[0], response[4:]

    def ask(self, message):
        self.send(framed(message))
        return self.receive()[1]

    def answer_or_end(self):
        """The next response, "closed" when the broker has closed the connection, "silent" when neither comes in time."""
        try:
            return self.receive()[1]
        except Closed:
            return "closed"
        except TimeoutError:
            return "silent"


def leaders(response):
    """Topic and partition errors and leaders of a Metadata response of version 1: {topic: (error, {partition: (error, leader)})}."""
    [brokers] = struct.unpack_from(">i", response)
    at = 4
    for _ in range(brokers):
        at += 4
        at += 2 + struct.unpack_from(">h", response, at)[0] + 4
        rack = struct.unpack_from(">h", response, at)[0]
        at += 2 + max(rack, 0)
    at += 4  # the controller
    [count] = struct.unpack_from(">i", response, at)
    at += 4
    found = {}
    for _ in range(count):
        error, length = struct.unpack_from(">hh", response, at)
        name = response[at + 4 : at + 4 + length].decode()
        at += 4 + length + 1
        [partitions] = struct.unpack_from(">i", response, at)
        at += 4
        found[name] = (error, {})
        for _ in range(partitions):
            fault, index, leader, replicas = struct.unpack_from(">hiii", response, at)
            at += 14 + 4 * replicas
            at += 4 + 4 * struct.unpack_from(">i", response, at)[0]
            found[name][1][index] = (fault, leader)
    return found


def quorum_leader(response):
    """The node that leads the quorum, of a DescribeQuorum response of version 0; -1 if there is none."""
    tagged, error, topics, length = struct.unpack_from(">bhbb", response)
    if error or topics != 2:
        return -1
    _, error, leader = struct.unpack_from(">ihi", response, 5 + length - 1 + 1)
    return leader if error == 0 else -1


def produced(response, version=3):
    """Error code and base offset of the one partition of a Produce response of version 3 to 8, and the texts it carries."""
    [length] = struct.unpack_from(">h", response, 4)
    at = 4 + 2 + length + 4
    _, error, base_offset = struct.unpack_from(">ihq", response, at)
    return error, base_offset


def fetched(response):
    """Error code, high watermark and records of the one partition of a Fetch response of version 4."""
    [length] = struct.unpack_from(">h", response, 8)
    at = 8 + 2 + length + 4
    _, error, high_watermark, _, aborted = struct.unpack_from(">ihqqi", response, at)
    at += 26 + 16 * max(aborted, 0)
    [size] = struct.unpack_from(">i", response, at)
    return error, high_watermark, response[at + 4 : at + 4 + max(size, 0)]
