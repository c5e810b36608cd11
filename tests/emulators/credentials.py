"""Application Default Credentials of nobody: a key made here, exchanged at a server here.

Without any, Google's libraries look for a metadata server, for minutes.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.emulators.servers import PROJECT


class _Tokens(BaseHTTPRequestHandler):
    """Exchanges any signed claim for a token."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = {"access_token": "nobody's", "expires_in": 3600, "token_type": "Bearer"}
        answer = json.dumps(token).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def credentials() -> Iterator[Path]:
    """Yield a service account's key file, for GOOGLE_APPLICATION_CREDENTIALS."""
    with (
        TemporaryDirectory() as folder,
        ThreadingHTTPServer(("127.0.0.1", 0), _Tokens) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = Path(folder, "key.json")
        path.write_text(json.dumps(_key(f"http://127.0.0.1:{server.server_port}/token")))
        try:
            yield path
        finally:
            server.shutdown()


def _key(token_uri: str) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": private.decode(),
        "client_email": f"nobody@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
