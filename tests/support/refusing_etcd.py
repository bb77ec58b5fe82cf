"""An etcd endpoint that answers everything with one error, as a learner or a member that lags does."""

from collections import Counter
from typing import Any

import grpc.aio


class RefusingEtcd(grpc.GenericRpcHandler):
    """A server in this process; gone when the block ends."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        """Say what it answers."""
        self.asked: Counter[str] = Counter()  # Method -> how often.
        self._code = code
        self._details = details

    async def __aenter__(self) -> "RefusingEtcd":
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def service(self, call: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        method = str(call.method).rsplit("/", 1)[1]

        async def refuse(_request: Any, context: Any) -> bytes:
            self.asked[method] += 1
            await context.abort(self._code, self._details)
            raise AssertionError("abort raises")

        if method == "LeaseKeepAlive":
            return grpc.stream_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)
