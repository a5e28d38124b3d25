"""Kafka's messages in every version, encoded and decoded as dictionaries from the schemas inside the kafka-clients jar."""

import json
import re
import struct
import uuid
import zipfile

ALL = (0, 32_767)


def versions(text):
    """Bounds of "3+", "0-5", "4", "none"."""
    if text is None or text == "none":
        return (1, 0)
    if text.endswith("+"):
        return (int(text[:-1]), ALL[1])
    low, _, high = text.partition("-")
    return (int(low), int(high or low))


def within(bounds, version):
    return bounds[0] <= version <= bounds[1]


INTEGERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q"}


class Field:
    def __init__(self, spec, structs):
        self.name, self.type = spec["name"], spec["type"]
        self.versions = versions(spec.get("versions"))
        self.nullable = versions(spec.get("nullableVersions"))
        self.tag = spec.get("tag")
        self.tagged = versions(spec.get("taggedVersions"))
        self.element = self.type[2:] if self.type.startswith("[]") else None
        named = self.element or self.type
        self.fields = None
        if "fields" in spec:
            self.fields = [Field(f, structs) for f in spec.get("fields", [])]
        elif named in structs:
            self.fields = [Field(f, structs) for f in structs[named]]
        self.default = self.default_of(spec.get("default"))

    def names(self):
        """Its own name and those of all fields below."""
        return {self.name}.union(*(f.names() for f in self.fields or []))

    def default_of(self, text):
        if text == "null":
            return None
        if self.element:
            return []
        if self.type in INTEGERS:
            return int(str(text or 0), 0)
        if self.type == "bool":
            return str(text).lower() == "true"
        if self.type == "float64":
            return float(text or 0)
        if self.type == "string":
            return text or ""
        if self.type in ("bytes", "records"):
            return b""
        if self.type == "uuid":
            return uuid.UUID(int=0)
        return {}


def uvarint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"{count} bytes at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number


class Message:
    def __init__(self, spec):
        structs = {s["name"]: s["fields"] for s in spec.get("commonStructs", [])}
        self.name, self.key = spec["name"], spec.get("apiKey")
        self.versions, self.flexible = versions(spec.get("validVersions")), versions(spec.get("flexibleVersions"))
        self.fields = [Field(f, structs) for f in spec.get("fields", [])]
        self.names = {name for f in self.fields for name in f.names()}

    def encode(self, version, body):
        return self.put_struct(self.fields, body, version, within(self.flexible, version))

    def decode(self, version, data):
        """The message as a dictionary; it must use up the data."""
        reader = Reader(data)
        body = self.get_struct(self.fields, reader, version, within(self.flexible, version))
        if reader.at != len(data):
            raise ValueError(f"{self.name} {version}: {len(data) - reader.at} bytes left over")
        return body

    def put_struct(self, fields, body, version, flexible):
        unknown = set(body) - self.names
        if unknown:
            raise ValueError(f"{self.name} has no {unknown}")
        out, tags = b"", []
        for f in fields:
            if not within(f.versions, version):
                continue
            value = body.get(f.name, f.default)
            if within(f.tagged, version):
                if value != f.default:
                    tags.append((f.tag, self.put(f, value, version, flexible)))
            else:
                out += self.put(f, value, version, flexible)
        if flexible:
            out += uvarint(len(tags)) + b"".join(uvarint(t) + uvarint(len(d)) + d for t, d in sorted(tags))
        return out

    def put(self, f, value, version, flexible):
        if f.element:
            if value is None:
                return b"\0" if flexible else struct.pack(">i", -1)
            head = uvarint(len(value) + 1) if flexible else struct.pack(">i", len(value))
            return head + b"".join(self.put_one(f, f.element, v, version, flexible) for v in value)
        return self.put_one(f, f.type, value, version, flexible)

    def put_one(self, f, kind, value, version, flexible):
        if kind in INTEGERS:
            return struct.pack(INTEGERS[kind], value)
        if kind == "bool":
            return bytes([value])
        if kind == "float64":
            return struct.pack(">d", value)
        if kind == "uuid":
            return value.bytes
        if kind in ("string", "bytes", "records"):
            form = ">h" if kind == "string" else ">i"
            if value is None:
                return b"\0" if flexible else struct.pack(form, -1)
            data = value.encode() if kind == "string" else value
            return (uvarint(len(data) + 1) if flexible else struct.pack(form, len(data))) + data
        if not f.element and f.nullable[0] <= f.nullable[1] and within(f.nullable, version):
            return b"\xff" if value is None else b"\1" + self.put_struct(f.fields, value, version, flexible)
        return self.put_struct(f.fields, value, version, flexible)

    def get_struct(self, fields, reader, version, flexible):
        body = {}
        for f in fields:
            if within(f.versions, version) and not within(f.tagged, version):
                body[f.name] = self.get(f, reader, version, flexible)
        if flexible:
            tagged = {f.tag: f for f in fields if within(f.tagged, version)}
            for _ in range(reader.uvarint()):
                tag, size = reader.uvarint(), reader.uvarint()
                end = reader.at + size
                if tag in tagged:
                    body[tagged[tag].name] = self.get(tagged[tag], reader, version, flexible)
                else:
                    body[f"tag {tag}"] = reader.take(size)
                if reader.at != end:
                    raise ValueError(f"{self.name} {version}: tag {tag} is not of {size} bytes")
        return body

    def get(self, f, reader, version, flexible):
        if f.element:
            count = reader.uvarint() - 1 if flexible else reader.number(">i")
            return None if count == -1 else [self.get_one(f, f.element, reader, version, flexible) for _ in range(count)]
        return self.get_one(f, f.type, reader, version, flexible)

    def get_one(self, f, kind, reader, version, flexible):
        if kind in INTEGERS:
            return reader.number(INTEGERS[kind])
        if kind == "bool":
            return reader.take(1)[0] != 0
        if kind == "float64":
            return reader.number(">d")
        if kind == "uuid":
            return uuid.UUID(bytes=reader.take(16))
        if kind in ("string", "bytes", "records"):
            size = reader.uvarint() - 1 if flexible else reader.number(">h" if kind == "string" else ">i")
            if size == -1:
                return None
            data = reader.take(size)
            return data.decode() if kind == "string" else data
        if not f.element and f.nullable[0] <= f.nullable[1] and within(f.nullable, version) and reader.number(">b") < 0:
            return None
        return self.get_struct(f.fields, reader, version, flexible)


class Schemas:
    """The request and the response of each API, by its name: `schemas["Fetch"]`."""

    def __init__(self, jar):
        self.pairs = {}
        with zipfile.ZipFile(jar) as archive:
            for path in archive.namelist():
                if path.startswith("common/message/") and path.endswith(("Request.json", "Response.json")):
                    text = re.sub(r"^\s*//.*$", "", archive.read(path).decode(), flags=re.M)
                    message = Message(json.loads(text))
                    api = re.sub("(Request|Response)$", "", message.name)
                    self.pairs.setdefault(api, {})["request" if message.name.endswith("Request") else "response"] = message

    def __getitem__(self, api):
        pair = self.pairs[api]
        return pair["request"], pair["response"]
