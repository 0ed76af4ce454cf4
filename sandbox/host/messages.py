"""Plain stand-ins for the protobuf messages that the worker library builds and reads."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any


def _message(name: str, **constants: Any) -> type:
    def init(self: Any, **fields: Any) -> None:
        self.__dict__.update(fields)

    return type(name, (), {"__init__": init, **constants})


class TypedData:
    """protobuf's `oneof data`: one field is set, and WhichOneof names it."""

    def __init__(self, **field: Any) -> None:
        self.__dict__.update(field)
        self.kind: str | None = next(iter(field), None)
        self.value: Any = next(iter(field.values()), None)

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802 - protobuf's name
        """The name of the field that is set."""
        return self.kind


class ParameterBinding:
    """A named TypedData."""

    def __init__(self, name: str, data: TypedData) -> None:
        self.name = name
        self.data = data

    def WhichOneof(self, _: str) -> str:  # noqa: N802 - protobuf's name
        """Always `data`."""
        return "data"


_PLAIN = (
    "RpcException", "RpcHttp", "WorkerMetadata", "WorkerInitResponse", "FunctionMetadataResponse",
    "FunctionLoadResponse", "RpcFunctionMetadata", "RpcRetryOptions", "InvocationResponse",
    "Timestamp", "NullableString", "NullableBool", "NullableDouble", "NullableTimestamp",
)

_SAME_SITE = type("SameSite", (), {"None": "", "Lax": "lax", "Strict": "strict",
                                   "ExplicitNone": "none"})

PROTOS = SimpleNamespace(
    TypedData=TypedData,
    ParameterBinding=ParameterBinding,
    StatusResult=_message("StatusResult", Failure=0, Success=1),
    BindingInfo=_message("BindingInfo", out=1, inout=2, undefined=0),
    RpcHttpCookie=_message("RpcHttpCookie", SameSite=_SAME_SITE),
    **{name: _message(name) for name in _PLAIN},
)


def text(value: str) -> TypedData:
    """A string."""
    return TypedData(string=value)


def as_json(value: Any) -> TypedData:
    """JSON."""
    return TypedData(json=json.dumps(value))
