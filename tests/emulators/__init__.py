"""Google Cloud on loopback: BigQuery and Cloud Storage emulators, run by .venv/emulators.

A test that takes the fixture `cloud` (or `storage`: gs:// alone) of `fixtures.py` has Google's
client libraries sent there by the environment while its module runs: `cloud.dataset` and
`cloud.bucket` are fresh ones, `cloud.environment` is for subprocesses; `tables.py` fills tables.
`make setup-emulators` makes the environment; for a server of one's own there is `servers.run`.
"""
