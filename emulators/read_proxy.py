"""A proxy of the Storage Read API that records requests and breaks connections."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from emulators.http_service import PORTS

_LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class ReadProxy(grpc.GenericRpcHandler):
    """Forwards calls to the emulator."""

    channel: grpc.Channel  # to the emulator
    address: str = ""  # of the proxy, host:port
    break_after: int | None = None  # messages, until the first read of each stream is UNAVAILABLE
    refuse: grpc.StatusCode | None = None  # of every new session
    sessions: list[Any] = field(default_factory=list)  # requests
    reads: list[Any] = field(default_factory=list)  # requests

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        if method.endswith("/CreateReadSession"):
            call = self.channel.unary_unary(method)
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._create(call, request, context)
            )
        call = self.channel.unary_stream(method)
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: self._read(call, request, context)
        )

    def _create(self, call: Any, request: bytes, context: grpc.ServicerContext) -> bytes:
        from google.cloud.bigquery_storage_v1.types import CreateReadSessionRequest

        self.sessions.append(CreateReadSessionRequest.deserialize(request))
        if self.refuse is not None:
            context.abort(self.refuse, "refused\nby the proxy")
        return call(request)

    def _read(self, call: Any, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        from google.cloud.bigquery_storage_v1.types import ReadRowsRequest

        seen = ReadRowsRequest.deserialize(request)
        again = any(read.read_stream == seen.read_stream for read in self.reads)
        self.reads.append(seen)
        for number, message in enumerate(call(request)):
            if number == self.break_after and not again:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the proxy")
            yield message


@contextmanager
def read_proxy(emulator: str, **options: Any) -> Iterator[ReadProxy]:
    """Run a proxy of the emulator at host:port."""
    with grpc.insecure_channel(emulator, options=_LARGE) as channel:
        proxy = ReadProxy(channel, **options)
        server = grpc.server(ThreadPoolExecutor(16), handlers=[proxy], options=_LARGE)
        port = server.add_insecure_port("127.0.0.1:0")
        proxy.address = f"127.0.0.1:{port}"
        server.start()
        PORTS.add(port)
        try:
            yield proxy
        finally:
            PORTS.remove(port)
            server.stop(grace=0).wait()
