"""Turns errors that the user can fix into one line that names the way out."""

import errno
import re

from transforms.errors import InputError

FAILED, BAD_INPUT = 1, 2  # exit codes: see `pipelines.launch.exit_codes`
AGAIN = "rerun the same command"

_WHERE = r" \[while running '.*"  # what Beam adds to a worker's error
# Errors of a disk, which the user can fix.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

# The way out of an error of Google's libraries, by its class.
_CREDENTIALS = (
    BAD_INPUT,
    "Google Cloud rejected the credentials; run `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS to a key file",
)
_PERMISSION = (
    BAD_INPUT,
    "grant it to the account of the job; docs/dataflow.md lists the roles",
)
_NAME = (BAD_INPUT, "create it, or correct its name")
_REQUESTED = (BAD_INPUT, "correct the flag or the input that this names")
_QUOTA = (FAILED, f"no work is lost: wait, or request more quota, and {AGAIN}")
_SERVICE = (FAILED, f"Google Cloud does not answer; no work is lost: {AGAIN} later")
_CLOUD = {
    "BadGateway": _SERVICE,
    "BadRequest": _REQUESTED,
    "DeadlineExceeded": _SERVICE,
    "DefaultCredentialsError": _CREDENTIALS,
    "FailedPrecondition": _REQUESTED,
    "Forbidden": _PERMISSION,
    "GatewayTimeout": _SERVICE,
    "InternalServerError": _SERVICE,
    "InvalidArgument": _REQUESTED,
    "MalformedError": _CREDENTIALS,
    "NotFound": _NAME,
    "PermissionDenied": _PERMISSION,
    "RefreshError": _CREDENTIALS,
    "ResourceExhausted": _QUOTA,
    "RetryError": _SERVICE,
    "ServiceUnavailable": _SERVICE,
    "TooManyRequests": _QUOTA,
    "TransportError": _SERVICE,
    "Unauthenticated": _CREDENTIALS,
    "Unauthorized": _CREDENTIALS,
}
# As Python prints an error, and as Beam's file system lists those of several files.
_CLOUD_ERROR = rf"(?:\bgoogle\.[a-z_.]+\.|: )({'|'.join(_CLOUD)})(?:: |\(['\"])(.*)"
_REQUEST = r"(\d{3} )?\b(GET|POST|PUT|PATCH|DELETE) \S+ "  # method and address
_DETAILS = r"; reason: .*"  # what BigQuery's client adds: the same again
_LISTED = r"['\"]\)\}.*"  # the end of a list of errors


def explain(error: BaseException) -> tuple[int, str] | None:
    """Return an exit code and a line for an error that the user can fix."""
    if (message := _input_error(error)) is not None:
        return BAD_INPUT, message
    if (message := _disk_error(error)) is not None:
        return FAILED, f"{message}; no work is lost: fix the disk and {AGAIN}"
    if (message := _model_error(error)) is not None:
        return FAILED, f"{message}; finished work is kept: {AGAIN}"
    return _cloud_error(error)


def _model_error(error: BaseException) -> str | None:
    """Return the end of a model's process in one line, also for one raised in a worker."""
    found = re.findall(r"ModelProcessLost: (.*)", f"{type(error).__name__}: {error}")
    return re.sub(_WHERE, "", found[-1]).rstrip(" ;") if found else None


def _disk_error(error: BaseException) -> str | None:
    """Return the error of a disk in one line, also for one raised in a worker."""
    for number, text in re.findall(r"\w*Error: \[Errno (\d+)\] (.*)", f"OSError: {error}"):
        if int(number) in _DISK_ERRORS:
            return re.sub(_WHERE, "", text)
    return None


def _cloud_error(error: BaseException) -> tuple[int, str] | None:
    """Return the error of Google Cloud and the way out, also for one raised in a worker.

    The clients have already retried.
    """
    text = f"{type(error).__module__}.{type(error).__name__}: {error}"
    found = re.findall(_CLOUD_ERROR, text)
    if not found:
        return None
    name, said = found[-1]
    for noise in (_WHERE, _DETAILS, _REQUEST, _LISTED):
        said = re.sub(noise, "", said)
    said = said.rstrip(" .")
    helps = _CLOUD[name]
    if helps is _CREDENTIALS:
        return helps
    if helps is _PERMISSION and re.search(r"(?i)quota|rate.?limit", said):
        helps = _QUOTA
    return helps[0], f"{said}; {helps[1]}"


def _input_error(error: BaseException) -> str | None:
    """Return the text of an InputError, also of one raised in a worker.

    It is one line, unless indented lines give details.
    """
    message = str(error)
    if not isinstance(error, InputError):
        if missing := re.findall(r"ModuleNotFoundError: No module named '([^'.]*)", message):
            return f"{missing[-1]} is not installed; run `make setup`"
        found = re.findall(r"InputError: (.*(?:\n  .*)*)", message)
        if not found:
            return None
        message = found[-1]
    return re.sub(_WHERE, "", message)
