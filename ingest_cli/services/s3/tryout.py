"""Tries out a bucket: whether it takes objects, gives them back and lets them be deleted."""

from secrets import token_hex

from ...errors import ServiceUnavailable
from .bucket import Bucket


def try_out(bucket: Bucket) -> bool:
    """Write, read and delete an object; whether storage keeps one that is there, where it is asked to."""
    key, data = f"probe/{token_hex(8)}", b"written to see whether it can be"
    bucket.put(key, data, {}, "write", create=True)
    try:
        keeps = bucket.put(key, data, {}, "write", create=True) is None
        if b"".join(bucket.get(key, 0, "read") or ()) != data:
            raise ServiceUnavailable(f"{bucket.location(key)} is not what was written there just now")
    finally:
        bucket.delete([key], "delete")
    for _ in bucket.uploads("list unfinished uploads"):
        break
    return keeps
