"""What is noted with each object, so that it says by itself what it is to hash to, and where it came from."""

HASH, MTIME, MODE = "ingest-hash", "ingest-mtime", "ingest-mode"
# Of a copy: which object it is of, and the tag that it had.
SOURCE, SOURCE_TAG = "ingest-source", "ingest-source-tag"
