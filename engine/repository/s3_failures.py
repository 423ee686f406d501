"""How an S3 server says no, read from its answer, and what of it is worth another try.

| answer | trouble | tried again | may have been done all the same |
|---|---|---|---|
| 412 | EXISTS | no | no |
| 404 | MISSING, NO_BUCKET | no | no |
| 401, 403, 400 `ExpiredToken` | CREDENTIALS, DENIED | no | no |
| 403 `RequestTimeTooSkewed` | CLOCK | no | no |
| 507, quota codes | FULL | no | no |
| 301, 400 `AuthorizationHeaderMalformed` | WRONG_REGION | no | no |
| 416 | BEYOND_END | no | no |
| 501 | UNKNOWN_TO_STORE | no | no |
| 409 `ConditionalRequestConflict` | BUSY | yes | no |
| 429, 503 `SlowDown` | BUSY | yes | no |
| other 5xx, 408 | BUSY | yes | yes |
| no connection | UNREACHABLE | yes | no |
| connection cut, nothing for too long | CUT, SLOW | yes | yes |

The server's own sentence is never shown: it may quote what was signed.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from msgspec import Struct

from engine.errors import NewhopeError, NoSpace
from engine.repository.errors import ObjectExists, ObjectMissing, StorageFailed


class Trouble(Enum):
    """What a request met."""

    EXISTS = auto()
    MISSING = auto()
    NO_BUCKET = auto()
    CREDENTIALS = auto()
    DENIED = auto()
    CLOCK = auto()
    FULL = auto()
    WRONG_REGION = auto()
    BEYOND_END = auto()
    UNKNOWN_TO_STORE = auto()
    BUSY = auto()
    UNREACHABLE = auto()
    CUT = auto()
    SLOW = auto()
    OTHER = auto()


BY_CODE = {
    "NoSuchBucket": Trouble.NO_BUCKET,
    "InvalidBucketName": Trouble.NO_BUCKET,
    "InvalidAccessKeyId": Trouble.CREDENTIALS,
    "SignatureDoesNotMatch": Trouble.CREDENTIALS,
    "ExpiredToken": Trouble.CREDENTIALS,
    "TokenRefreshRequired": Trouble.CREDENTIALS,
    "InvalidToken": Trouble.CREDENTIALS,
    "RequestTimeTooSkewed": Trouble.CLOCK,
    "QuotaExceeded": Trouble.FULL,
    "XMinioStorageFull": Trouble.FULL,
    "XMinioAdminBucketQuotaExceeded": Trouble.FULL,
    "AuthorizationHeaderMalformed": Trouble.WRONG_REGION,
    "PermanentRedirect": Trouble.WRONG_REGION,
    "RequestTimeout": Trouble.BUSY,
    "SlowDown": Trouble.BUSY,
}
"""AWS's list of error codes; `QuotaExceeded` is Ceph RGW's, `XMinio...` MinIO's."""
BY_STATUS = {
    301: Trouble.WRONG_REGION,
    307: Trouble.WRONG_REGION,
    401: Trouble.CREDENTIALS,
    403: Trouble.DENIED,
    404: Trouble.MISSING,
    408: Trouble.BUSY,
    409: Trouble.BUSY,
    412: Trouble.EXISTS,
    416: Trouble.BEYOND_END,
    429: Trouble.BUSY,
    501: Trouble.UNKNOWN_TO_STORE,
    507: Trouble.FULL,
}
BY_CONNECTION = {"Timeout": Trouble.SLOW, "Connect": Trouble.UNREACHABLE}
WORTH_ANOTHER_TRY = {Trouble.BUSY, Trouble.UNREACHABLE, Trouble.CUT, Trouble.SLOW}
NOT_DONE = {"ConditionalRequestConflict", "SlowDown"}
MAY_NOT_DELETE = (
    "Dropping, unpinning and collecting need credentials that may delete (s3:DeleteObject); these may only add. "
    "Everything else goes on with them."
)
COMPLETE_STAYS = "Every recovery point that was complete stays so."


class Failure(Struct, frozen=True):
    """Why a request did not get what it asked for."""

    trouble: Trouble
    status: int = 0
    """HTTP status; 0 where no answer came."""
    code: str = ""
    """The server's own code, such as `SlowDown`."""

    @property
    def worth_another_try(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.trouble in WORTH_ANOTHER_TRY

    @property
    def may_be_done(self) -> bool:
        """Whether the server may have done what was asked, although it did not say so."""
        if self.status in (409, 429) or self.code in NOT_DONE:
            return False
        return self.trouble in (Trouble.BUSY, Trouble.CUT, Trouble.SLOW)

    def __str__(self) -> str:
        answer = f"{self.status} {self.code}".strip() if self.status else ""
        said = {
            Trouble.UNREACHABLE: "no connection",
            Trouble.CUT: "the connection was cut",
            Trouble.SLOW: "no answer in time",
        }
        return said.get(self.trouble) or (f"it answers {answer}" if answer else "its answer makes no sense")


def read_failure(error: Exception) -> Failure:
    """What an exception of the library says. The library gives text only: its first line and its debug form."""
    text = str(error)
    status = int(found[1]) if (found := re.search(r"status code: (\d{3})\b", text)) else 0
    code = found[1] if (found := re.search(r"<Code>([A-Za-z0-9_.]{1,80})</Code>", text)) else ""
    if status:
        fallback = Trouble.BUSY if status >= 500 else Trouble.OTHER
        return Failure(BY_CODE.get(code) or BY_STATUS.get(status, fallback), status, code)
    if "169.254.169.254" in text or "169.254.170.2" in text:
        # Where a machine of AWS would tell the credentials of its role (instance metadata).
        return Failure(Trouble.CREDENTIALS)
    if "BareRedirect" in text:
        # A redirection that names no target: what AWS answers for a bucket of another region.
        return Failure(Trouble.WRONG_REGION, 301)
    if isinstance(error, FileNotFoundError):
        return Failure(Trouble.MISSING)
    if type(error).__name__ == "AlreadyExistsError":
        return Failure(Trouble.EXISTS)
    if found := re.search(r"HttpError \{\s*kind: (\w+)", text):
        return Failure(BY_CONNECTION.get(found[1], Trouble.CUT))
    return Failure(Trouble.OTHER)


def explain(failure: Failure, doing: str, key: str, location: str, *, tried: int = 1) -> NewhopeError:
    """The error for people. `doing` is a verb (`read`), `tried` how often."""
    if failure.trouble is Trouble.EXISTS:
        return ObjectExists(key, location)
    if failure.trouble is Trouble.MISSING and doing in ("read", "delete"):
        return ObjectMissing(key, location)
    if failure.trouble is Trouble.FULL:
        return NoSpace(
            f"There is no space left for the repository {location}: {failure}.",
            untouched="Every recovery point that was complete stays so; the unfinished one is not listed.",
            next_step="Raise the quota or add storage, and run it again: what was stored is used again.",
        )
    what = f"Could not {doing} {key or 'objects'} in {location}: {failure}"
    times = f" ({tried} times tried)" if tried > 1 else ""
    unsure = f" Whether {key} was stored is not known; it is there whole or not at all." if failure.may_be_done else ""
    return StorageFailed(
        f"{what}{times}.",
        untouched=COMPLETE_STAYS + (unsure if doing == "create" else ""),
        next_step=MAY_NOT_DELETE
        if doing == "delete" and failure.trouble is Trouble.DENIED
        else _next_step(failure, location),
    )


def _next_step(failure: Failure, location: str) -> str:
    match failure.trouble:
        case Trouble.NO_BUCKET | Trouble.MISSING:
            return "Make the bucket first (aws s3 mb, mc mb), or correct its name in newhope.toml."
        case Trouble.CREDENTIALS:
            return "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in ~/.aws: have they expired?"
        case Trouble.DENIED:
            return "Allow these credentials s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there."
        case Trouble.CLOCK:
            return "Set this machine's clock (timedatectl): the server refuses requests that are minutes off."
        case Trouble.WRONG_REGION:
            return "Give the bucket's region in newhope.toml, and check the endpoint."
        case Trouble.UNKNOWN_TO_STORE:
            return f"That server cannot create objects conditionally, which newhope needs: see {location}'s version."
        case Trouble.UNREACHABLE:
            return "Check the endpoint in newhope.toml, its name (DNS), certificate, and the way there (curl -v)."
        case Trouble.BUSY | Trouble.SLOW | Trouble.CUT:
            return "Look at the server's load and log, and run it again: what was stored is used again."
        case _:
            return "Check that the endpoint in newhope.toml is an S3 server (curl -v), and look at its log."
