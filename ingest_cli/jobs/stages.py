"""The stages of a run, by the names that Pacifica's clients know."""

UPLOADING = "UPLOADING"
OPEN_TAR = "open tar"
LOAD_METADATA = "load metadata"
POLICY_VALIDATION = "Policy Validation"
INGEST_FILES = "ingest files"
MOVE_FILES = "move files"
INGEST_METADATA = "ingest metadata"
STAGES = (
    UPLOADING,
    OPEN_TAR,
    LOAD_METADATA,
    POLICY_VALIDATION,
    INGEST_FILES,
    MOVE_FILES,
    INGEST_METADATA,
)
