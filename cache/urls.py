"""Where a cache may be: a folder, or the URL of a storage that can be written to.

A cache's URL is written into runs and printed in messages, so it may hold no secret.
"""

import re
from pathlib import Path

from ser.corpus.errors import UserError

PROTOCOLS = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hdfs", "webhdfs"),
    *("sftp", "ssh", "smb", "file", "local", "memory"),
)
WITH_ACCOUNT = ("abfs", "abfss", "oci")  # container@account, which is no secret
OTHERS = (  # of URLs, and never of a folder
    *("data", "http", "https", "ftp", "ftps", "webdav", "dav", "github", "git", "zip", "tar", "hf"),
    *("s3n", "r2", "minio", "wasb", "wasbs", "dbfs", "gdrive", "dropbox", "box", "onedrive"),
)
LONGEST = 1000  # characters of a URL; S3's keys have 1024 bytes


def is_url(root: str | Path) -> bool:
    """Return whether a cache is given as a URL, not as a folder."""
    return "://" in str(root)


def check_place(place: str) -> None:
    """Raise `UserError` for what is neither a folder nor the URL of a storage that keeps files.

    Examples are `s3:/bucket`, `data:,x` and `memory://x`. The message repeats the scheme only.
    """
    scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]+):", place)
    if is_url(place):
        check_url(place)
        if place.startswith("memory:"):
            raise UserError(
                "memory://…: it is lost when the program ends; give a folder, or a URL such as "
                "s3://bucket/cache."
            )
    elif scheme and (scheme[1].lower() in (*PROTOCOLS, *OTHERS) or "@" in place):
        raise UserError(
            f"{scheme[1][:30]}:…: it is neither a folder nor the URL of a cache; give a folder, or "
            "a URL such as s3://bucket/cache."
        )


def check_url(url: str) -> None:
    """Raise `UserError` for a URL where no cache can be, or that holds a secret.

    A cache's URL is written into runs and printed in messages, so it may have neither a user's
    name and password nor a query; the message repeats neither.
    """
    protocol, _, path = url.partition("://")
    host = path.partition("/")[0]
    shown = without_secrets(url)[:300]
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", protocol) or not path.strip("/"):
        raise UserError(
            f"{shown}: it is not the URL of a cache; give one such as s3://bucket/cache."
        )
    if protocol not in PROTOCOLS:
        raise UserError(
            f"{shown}: a cache cannot be kept in {protocol}://; use a folder, s3://, gs:// or "
            f"another of {', '.join(PROTOCOLS)}."
        )
    if protocol in WITH_ACCOUNT:
        host = host.replace("@", "", 1)
    if "@" in host or "?" in path or "#" in path or re.search(r":(?![0-9]+$)", host):
        raise UserError(
            f"{protocol}://…: a URL may have no user name, password or query, because it is "
            "written into runs; give them as AWS_PROFILE, in ~/.aws or ~/.config/fsspec."
        )
    if len(url) > LONGEST or not url.isprintable():
        raise UserError(
            f"{shown}: the URL has control characters or more than {LONGEST:,} characters; correct "
            "it."
        )


def without_secrets(text: str) -> str:
    """Return a text to print or write, its URLs without user, password and query."""
    text = re.sub(r"://.*@", "://…@", text, flags=re.DOTALL)
    text = re.sub(rf"\b((?:{'|'.join(PROTOCOLS)}):/*).*@", r"\1…@", text, flags=re.DOTALL | re.I)
    return re.sub(r"(://[^\s?#]*)[?#]\S+", r"\1?…", text)
