"""How a public call ends when it has no answer: a ``google.rpc.Status`` with a detail that a program can read."""

from typing import Final, NoReturn

import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

Context = grpc.aio.ServicerContext[Message, Message]

RETRY_AFTER_S: Final = 1


async def refuse_argument(context: Context, field: str, description: str) -> NoReturn:
    """End a call that can't be served as it is; ``field`` is the path to what is wrong, "" for all of the message."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    text = f"{field} {description}" if field else description
    await _end(context, code_pb2.INVALID_ARGUMENT, text, error_details_pb2.BadRequest(field_violations=[violation]))


async def refuse_for_now(
    context: Context, text: str, *, code: "code_pb2.Code" = code_pb2.UNAVAILABLE, after_s: int = RETRY_AFTER_S
) -> NoReturn:
    """End a call of which nothing was counted, and which may be sent again after ``after_s``."""
    delay = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=after_s))
    await _end(context, code, text, delay)


async def _end(context: Context, code: int, text: str, detail: Message) -> NoReturn:
    status = status_pb2.Status(code=code, message=text)
    status.details.add().Pack(detail)
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status always raises")
