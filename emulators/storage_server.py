"""Cloud Storage in memory: gcp-storage-emulator, unchanged.

Run by .venv/emulators: see servers.py.
"""

import threading

from emulators import lifetime


def main() -> None:
    output = lifetime.claim_output()
    from gcp_storage_emulator.server import create_server

    with create_server("127.0.0.1", 0, in_memory=True) as server:
        port = server._api._httpd.server_address[1]
        lifetime.announce(output, url=f"http://127.0.0.1:{port}")
        threading.Event().wait()


if __name__ == "__main__":
    main()
