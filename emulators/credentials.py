"""Fake Application Default Credentials, with a key and a token server of our own.

Without credentials Google's libraries look for a metadata server, for minutes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from emulators.http_service import serve_json
from emulators.servers import PROJECT

_TOKEN = {"access_token": "nobody's", "expires_in": 3600, "token_type": "Bearer"}


@contextmanager
def credentials() -> Iterator[Path]:
    """Yield a service account's key file, for GOOGLE_APPLICATION_CREDENTIALS."""
    with TemporaryDirectory() as folder, serve_json(lambda path, claim: (200, _TOKEN)) as url:
        path = Path(folder, "key.json")
        path.write_text(json.dumps(_key(f"{url}/token")))
        yield path


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
