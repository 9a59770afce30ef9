"""The messages of Prometheus's remote read and write: a short definition of our own, with the protocols' field numbers."""

import re
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClassesForFiles

__all__ = ["DEFINITION", "MESSAGES", "DecodeError"]

DEFINITION = """
message ReadRequest   { repeated Query queries = 1; repeated int32 accepted_response_types = 2; }
message Query         { int64 start_timestamp_ms = 1; int64 end_timestamp_ms = 2;
                        repeated LabelMatcher matchers = 3; ReadHints hints = 4; }
message LabelMatcher  { int32 type = 1; string name = 2; string value = 3; }
message ReadHints     { string func = 2; }

message ReadResponse  { repeated QueryResult results = 1; }
message QueryResult   { repeated TimeSeries timeseries = 1; }
message WriteRequest  { repeated TimeSeries timeseries = 1; }
message TimeSeries    { repeated Label labels = 1; repeated Sample samples = 2; }
message Label         { string name = 1; string value = 2; }
message Sample        { double value = 1; int64 timestamp = 2; }
"""
"""Enumerations are plain numbers here; unknown fields are skipped."""

_PACKAGE = "utility_exporter"
_MESSAGE = re.compile(r"message (\w+)\s*{([^}]*)}")
_FIELD = re.compile(r"(repeated )?(\w+) (\w+) = (\d+);")
_SCALARS = {
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "string": FieldDescriptorProto.TYPE_STRING,
}


def _build_file_descriptor() -> FileDescriptorProto:
    file = FileDescriptorProto(name="remote.proto", package=_PACKAGE, syntax="proto3")
    for name, body in _MESSAGE.findall(DEFINITION):
        message = file.message_type.add(name=name)
        for repeated, kind, field, number in _FIELD.findall(body):
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            scalar = _SCALARS.get(kind, FieldDescriptorProto.TYPE_MESSAGE)
            descriptor = message.field.add(name=field, number=int(number), label=label, type=scalar)
            if kind not in _SCALARS:
                descriptor.type_name = f".{_PACKAGE}.{kind}"
    return file


def _build_message_classes() -> dict[str, Any]:
    pool = DescriptorPool()
    pool.Add(_build_file_descriptor())
    classes = GetMessageClassesForFiles(["remote.proto"], pool)
    return {name.removeprefix(f"{_PACKAGE}."): kind for name, kind in classes.items()}


MESSAGES = _build_message_classes()
"""The message classes by their names."""
