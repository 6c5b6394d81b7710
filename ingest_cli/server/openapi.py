"""The description of the server's requests, in OpenAPI 3.1."""

from typing import Any

from .. import __version__
from ..jobs.filter import GROUPS
from ..jobs.job import JobKind, JobStatus
from ..jobs.places import WaitsFor
from ..jobs.stages import STAGES
from .job_query import MAX_LISTED, USUAL_COUNT


def _object(properties: dict[str, Any], *more: str) -> dict[str, Any]:
    return {"type": "object", "required": [*properties, *more], "properties": properties}


_STATE = _object(
    {
        "job_id": {"type": "integer", "minimum": 1},
        "state": {"enum": ["OK", "FAILED"]},
        "task": {"enum": list(STAGES)},
        "task_percent": {"type": "string", "pattern": r"^\d+\.\d{5}$"},
        "complete": {
            "type": "boolean",
            "description": "whether the job has come to its end: stored if the state is OK, failed for good if not",
        },
        "updated": {"type": "string", "description": "UTC, with a space between date and time"},
        "created": {"type": "string", "description": "UTC, with a space between date and time"},
        "exception": {
            "type": "string",
            "description": "what went wrong, and when a deferred job is tried again, or which job a duplicate is of;"
            " a very long text without its middle",
        },
    }
)
# The words of Pacifica Ingest, whatever they are.
_IMPORTED = _object(
    {
        name: kept if name in ("job_id", "complete", "updated", "created") else {"type": "string"}
        for name, kept in _STATE["properties"].items()
    }
)
_LISTED = {
    "allOf": [
        {"$ref": "#/components/schemas/State"},
        _object(
            {
                "status": {"enum": list(JobStatus), "description": "the state in a word; the state is Pacifica's"},
                "source": {"type": "string", "description": "the path of the bundle or document"},
                "origin": {"type": "string", "description": "what the bundle was made of, or else its source"},
                "files": {"type": "integer", "description": "how many are listed in the document; 0 before it is read"},
                "bytes": {"type": "integer", "description": "how many these files hold"},
                "duplicate_of": {"type": ["integer", "null"], "description": "the job that has the content"},
                "kind": {"enum": list(JobKind)},
                "user": {"type": "string"},
                "stored": {"type": "integer", "description": "how many files are stored"},
                "running": {"type": "boolean"},
                "attempts": {"type": "integer"},
                "retried_at": {"type": ["string", "null"], "description": "when a deferred job is due, in UTC"},
            }
        ),
        {
            "properties": {
                "queue": {"type": "string", "description": "local:HOST or shared, where several hosts share the jobs"},
                "priority": {"type": "integer", "description": "how urgent it is; there where the queue is"},
                "waits_for": {
                    "enum": [*WaitsFor, None],
                    "description": "of what nobody works on: a worker of that host, others of its project, its time,"
                    " or a worker that is free; there where the queue is",
                },
            }
        },
    ]
}
_LISTED_JOBS = {"type": "array", "items": {"$ref": "#/components/schemas/Listed"}}
_PAGE = _object(
    {
        "jobs": _LISTED_JOBS,
        "next": {"type": ["string", "null"], "description": "where the next page is; null at the end"},
    }
)
_JOB = {
    "allOf": [
        {"$ref": "#/components/schemas/Listed"},
        _object(
            {
                "stages": {"type": "object", "additionalProperties": {"type": "number", "description": "seconds"}},
                "log": {"type": "array", "items": _object({"time": {"type": "string"}, "text": {"type": "string"}})},
                "downloadable": {"type": "boolean", "description": "whether you may download what is stored of it"},
            }
        ),
    ]
}
_ERROR = _object({name: {"type": "string"} for name in ("status", "message", "traceback", "version")})
_JOB_ID = {"type": "integer", "description": "the id of a job; the answer is 404 if there is no such job"}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(success: dict[str, Any], *errors: int, status: str = "200") -> dict[str, Any]:
    meanings = {
        400: "the request is malformed",
        401: "credentials are required",
        403: "the request is not allowed",
        404: "not found",
        408: "the request timed out",
        409: "the Upload-Offset is not the current one",
        410: "the upload has expired, or is a part of another one by now",
        411: "a Content-Length is required",
        412: "the version of tus is not supported, or what is here is not what the request is about",
        413: "the body is too long",
        415: "the content type is not supported",
        416: "there are no such bytes",
        423: "another request is writing the upload",
        460: "the body does not match its Upload-Checksum",
        500: "the archive does not hold what was recorded",
        503: "temporarily unavailable; see Retry-After",
        507: "not enough disk space; see Retry-After",
    }
    everywhere = (400, 401, 403)
    known = {str(code): _json(meanings[code], _ref("Error")) for code in sorted({*everywhere, *errors})}
    return {status: success, **known}


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


_UPLOAD = {
    "summary": "Upload a bundle and queue its job",
    "requestBody": {"required": True, "content": {"application/octet-stream": {}, "application/x-tar": {}}},
    "responses": _answers(_json("the job's state", _ref("State")), 408, 413, 415, 503, 507),
}
_TEXT = {"type": "string"}
_NULLABLE = {"type": ["string", "null"]}
_FILE = _object(
    {
        "id": {"type": "integer"},
        "path": {"type": "string", "description": "the name in the bundle"},
        "size": {"type": "integer"},
        "hashtype": _TEXT,
        "hashsum": _TEXT,
        "mimetype": _TEXT,
        "ctime": _NULLABLE,
        "mtime": _NULLABLE,
    }
)
_DOWNLOAD_ERRORS = (404, 412, 416, 500, 503, 507)


def _download(summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    """GET and HEAD of something that has ranges."""
    content = {"description": "the bytes", "content": {"application/octet-stream": {}}}
    responses = _answers(content, *_DOWNLOAD_ERRORS)
    responses["206"] = {"description": "the bytes of the Range", "content": {"application/octet-stream": {}}}
    responses["304"] = {"description": "the client has it"}
    asked = _parameter("Range", "header", {"type": "string", "pattern": "^bytes=[0-9]*-[0-9]*$"}, required=False)
    return {"get": {"summary": summary, "parameters": [*parameters, asked], "responses": responses}}


_OF_JOB = _parameter("job_id", "path", _JOB_ID)
_MOMENT = {"type": "string", "description": "a date and time of ISO 8601, or as 'ingest state' takes them"}
_WANTED: dict[str, dict[str, Any]] = {
    "status": {"type": "array", "items": {"enum": list(JobStatus)}},
    "group": {"type": "array", "items": {"enum": list(GROUPS)}, "description": "several statuses in one word"},
    "since": {**_MOMENT, "title": "last changed then or later"},
    "until": {**_MOMENT, "title": "last changed before"},
    "source": {"type": "string", "description": "a glob for the origin: its path, or the last part of it"},
    "user": {"type": "string"},
    "kind": {"enum": list(JobKind)},
    "count": {"type": "integer", "default": USUAL_COUNT, "maximum": MAX_LISTED},
    "before": {"type": "integer", "minimum": 0, "description": "only jobs with ids below this one"},
    "envelope": {"enum": ["yes", "no"], "default": "no", "description": "answer with an object of jobs and next"},
}
_CART = _parameter("cart", "path", {"type": "string", "format": "uuid"})
_CART_FILES = _object(
    {
        "fileids": {
            "type": "array",
            "items": _object(
                {"id": {"type": ["integer", "string"]}, **dict.fromkeys(("path", "hashtype", "hashsum"), _TEXT)}
            ),
        }
    }
)
_MESSAGE = _object({"message": _TEXT})
_BYTES = {"type": "integer", "minimum": 0}
_TUS = _parameter("Tus-Resumable", "header", {"const": "1.0.0"})
_CHECKSUM = _parameter(
    "Upload-Checksum", "header", {"type": "string", "pattern": "^(sha1|sha256|md5) [A-Za-z0-9+/=]+$"}, required=False
)
_CREATION = [
    _TUS,
    _parameter("Upload-Length", "header", _BYTES, required=False),
    _parameter("Upload-Defer-Length", "header", {"const": "1"}, required=False),
    _parameter("Upload-Metadata", "header", {"type": "string", "maxLength": 8192}, required=False),
    _parameter("Upload-Concat", "header", {"type": "string", "pattern": "^(partial|final;.+)$"}, required=False),
    _CHECKSUM,
]
_PIECE: dict[str, Any] = {"application/offset+octet-stream": {}}
_SPOKEN = _answers(
    {"description": "see Tus-Version, Tus-Extension, Tus-Checksum-Algorithm and Tus-Max-Size"}, status="204"
)
_NAME = _parameter("name", "path", {"type": "string", "pattern": "^[0-9a-f]{32}$"})

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "ingest", "version": __version__},
    "paths": {
        "/": {
            "get": {
                "summary": "Check that the server is running",
                "responses": _answers(_json("the server is running", _object({"message": {"type": "string"}}))),
            }
        },
        "/upload": {"post": _UPLOAD},
        "/ingest": {"post": _UPLOAD},
        "/move": {
            "post": {
                "summary": "Upload a document of files to move, from folders that the server names, and queue its job",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "array"}}}},
                "responses": _answers(_json("the job's state", _ref("State")), 408, 411, 413, 415, 503, 507),
            }
        },
        "/get_state": {
            "get": {
                "summary": "Show the state of a job",
                "parameters": [_parameter("job_id", "query", _JOB_ID)],
                "responses": _answers(_json("the job's state", {"anyOf": [_ref("State"), _ref("ImportedState")]}), 404),
            }
        },
        "/jobs": {
            "get": {
                "summary": "List jobs, newest first, a page at a time; see Link for the next page",
                "parameters": [_parameter(name, "query", schema, required=False) for name, schema in _WANTED.items()],
                "responses": _answers(
                    {
                        **_json("the jobs, or a page of them", {"anyOf": [_LISTED_JOBS, _PAGE]}),
                        "headers": {"Link": {"description": "the next page, as rel=next", "schema": _TEXT}},
                    }
                ),
            }
        },
        "/jobs/{job_id}": {
            "get": {
                "summary": "Show a job and how many seconds it spent in each stage",
                "parameters": [_parameter("job_id", "path", _JOB_ID)],
                "responses": _answers(_json("the job", _ref("Job")), 404),
            }
        },
        "/jobs/{job_id}/bundle": _download("Download what is stored of a job as a bundle", _OF_JOB),
        "/jobs/{job_id}/files": {
            "get": {
                "summary": "List the files that are stored of a job",
                "parameters": [_OF_JOB],
                "responses": _answers(_json("the files", {"type": "array", "items": _FILE}), 404, 503),
            }
        },
        "/jobs/{job_id}/files/{path}": _download(
            "Download a file of a job, by its name in the bundle or by its id",
            _OF_JOB,
            _parameter("path", "path", _TEXT),
        ),
        "/status/transactions/by_id/{job_id}": {
            "get": {
                "summary": "Tell of a job and its files what Pacifica's clients ask a policy service for",
                "parameters": [_OF_JOB],
                "responses": _answers(_json("the transaction", {"type": "object"}), 404, 503),
            }
        },
        "/{cart}": {
            **_download(
                "Download the files of a cart as a tar", _CART, _parameter("filename", "query", _TEXT, required=False)
            ),
            "head": {
                "summary": "Show whether a cart is ready",
                "parameters": [_CART],
                "responses": _answers(
                    {"description": "see the headers X-Pacifica-Status and X-Pacifica-Message"},
                    404,
                    500,
                    503,
                    status="204",
                ),
            },
            "post": {
                "summary": "Make a cart of files",
                "parameters": [_CART],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _CART_FILES}}},
                "responses": _answers(_json("it is made", _MESSAGE), 404, 408, 413, 415, 503, 507, status="201"),
            },
            "delete": {
                "summary": "Delete a cart",
                "parameters": [_CART],
                "responses": _answers(_json("it is deleted", _MESSAGE), 404, 503),
            },
        },
        "/healthz": {
            "get": {
                "summary": "Check that the server can accept jobs",
                "responses": _answers(_json("it can", _object({"status": {"const": "ok"}})), 503),
            }
        },
        "/metrics": {
            "get": {
                "summary": "Show metrics of the job store, for Prometheus",
                "responses": _answers({"description": "metrics", "content": {"text/plain": {}}}),
            }
        },
        "/openapi.json": {
            "get": {"summary": "Show this description", "responses": _answers(_json("OpenAPI 3.1", {"type": "object"}))}
        },
        "/files": {
            "options": {
                "summary": "Show the supported version and extensions of tus",
                "responses": _SPOKEN,
            },
            "post": {
                "summary": "Create a resumable upload (tus 1.0.0), or join uploads that are its parts",
                "parameters": _CREATION,
                "requestBody": {"required": False, "content": _PIECE},
                "responses": _answers(
                    {"description": "see Location, Upload-Offset, Upload-Expires and Ingest-Job-Id"},
                    *(404, 408, 410, 412, 413, 423, 460, 503, 507),
                    status="201",
                ),
            },
        },
        "/files/{name}": {
            "options": {
                "summary": "Show the supported version and extensions of tus",
                "parameters": [_NAME],
                "responses": _SPOKEN,
            },
            "head": {
                "summary": "Show how much of an upload has arrived",
                "parameters": [_NAME, _TUS],
                "responses": _answers(
                    {"description": "see Upload-Offset, Upload-Expires and Ingest-Job-Id"}, 404, 410, 412, 423, 503
                ),
            },
            "patch": {
                "summary": "Append to an upload; the last byte queues its job",
                "parameters": [
                    *(_NAME, _TUS, _parameter("Upload-Offset", "header", _BYTES)),
                    *(_parameter("Upload-Length", "header", _BYTES, required=False), _CHECKSUM),
                ],
                "requestBody": {"required": True, "content": _PIECE},
                "responses": _answers(
                    {"description": "see Upload-Offset, Upload-Expires and Ingest-Job-Id"},
                    *(404, 408, 409, 410, 412, 413, 415, 423, 460, 503, 507),
                    status="204",
                ),
            },
            "delete": {
                "summary": "Delete an upload",
                "parameters": [_NAME, _TUS],
                "responses": _answers({"description": "the upload was deleted"}, 404, 410, 412, 423, status="204"),
            },
        },
    },
    "components": {
        "schemas": {"State": _STATE, "ImportedState": _IMPORTED, "Listed": _LISTED, "Job": _JOB, "Error": _ERROR}
    },
}
