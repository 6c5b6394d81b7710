"""What the server understands, in the terms of OpenAPI 3.1."""

from typing import Any

from .. import __version__
from ..jobs.stages import STAGES


def _object(properties: dict[str, Any], *more: str) -> dict[str, Any]:
    return {"type": "object", "required": [*properties, *more], "properties": properties}


_STATE = _object(
    {
        "job_id": {"type": "integer", "minimum": 1},
        "state": {"enum": ["OK", "FAILED"]},
        "task": {"enum": list(STAGES)},
        "task_percent": {"type": "string", "pattern": r"^\d+\.\d{5}$"},
        "complete": {"type": "boolean"},
        "updated": {"type": "string", "description": "UTC, with a blank between date and time"},
        "created": {"type": "string", "description": "UTC, with a blank between date and time"},
        "exception": {"type": "string"},
    }
)
_LISTED = {
    "allOf": [
        {"$ref": "#/components/schemas/State"},
        _object(
            {
                "kind": {"enum": ["bundle", "move"]},
                "user": {"type": "string"},
                "running": {"type": "boolean"},
                "attempts": {"type": "integer"},
                "files": {"type": "integer"},
                "stored": {"type": "integer"},
                "bytes": {"type": "integer"},
                "duplicate_of": {"type": ["integer", "null"]},
            }
        ),
    ]
}
_JOB = {
    "allOf": [
        {"$ref": "#/components/schemas/Listed"},
        _object({"stages": {"type": "object", "additionalProperties": {"type": "number", "description": "seconds"}}}),
    ]
}
_ERROR = _object({name: {"type": "string"} for name in ("status", "message", "traceback", "version")})
_JOB_ID = {"type": "integer", "description": "a job's id; without a job of it the answer is 404"}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(success: dict[str, Any], *errors: int, status: str = "200") -> dict[str, Any]:
    meanings = {
        400: "the request cannot be understood",
        401: "credentials are needed",
        403: "this may not be done",
        404: "there is none",
        408: "nothing came for too long",
        409: "another offset is the next",
        411: "the length must be said",
        412: "another version of the protocol",
        413: "too long",
        415: "another content type is needed",
        423: "another request writes it",
        503: "not now; see Retry-After",
        507: "no room",
    }
    everywhere = (400, 401, 403)
    known = {str(code): _json(meanings[code], _ref("Error")) for code in sorted({*everywhere, *errors})}
    return {status: success, **known}


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


_UPLOAD = {
    "summary": "Give a bundle; its job is queued",
    "requestBody": {"required": True, "content": {"application/octet-stream": {}, "application/x-tar": {}}},
    "responses": _answers(_json("the job's state", _ref("State")), 408, 413, 415, 503, 507),
}
_BYTES = {"type": "integer", "minimum": 0}
_TUS = _parameter("Tus-Resumable", "header", {"const": "1.0.0"})
_NAME = _parameter("name", "path", {"type": "string", "pattern": "^[0-9a-f]{32}$"})

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "ingest", "version": __version__},
    "paths": {
        "/": {
            "get": {
                "summary": "Say that the server runs",
                "responses": _answers(_json("it runs", _object({"message": {"type": "string"}}))),
            }
        },
        "/upload": {"post": _UPLOAD},
        "/ingest": {"post": _UPLOAD},
        "/move": {
            "post": {
                "summary": "Give a document whose files lie on the archive's disk; its job is queued",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "array"}}}},
                "responses": _answers(_json("the job's state", _ref("State")), 408, 411, 413, 415, 503, 507),
            }
        },
        "/get_state": {
            "get": {
                "summary": "What became of a job",
                "parameters": [_parameter("job_id", "query", _JOB_ID)],
                "responses": _answers(_json("the job's state", _ref("State")), 404),
            }
        },
        "/jobs": {
            "get": {
                "summary": "The newest jobs",
                "parameters": [_parameter("count", "query", {"type": "integer", "default": 50}, required=False)],
                "responses": _answers(_json("newest first", {"type": "array", "items": _ref("Listed")})),
            }
        },
        "/jobs/{job_id}": {
            "get": {
                "summary": "A job, with its seconds in each stage",
                "parameters": [_parameter("job_id", "path", _JOB_ID)],
                "responses": _answers(_json("the job", _ref("Job")), 404),
            }
        },
        "/healthz": {
            "get": {
                "summary": "Whether jobs can be taken",
                "responses": _answers(_json("they can", _object({"status": {"const": "ok"}})), 503),
            }
        },
        "/metrics": {
            "get": {
                "summary": "The job store, for Prometheus",
                "responses": _answers({"description": "metrics", "content": {"text/plain": {}}}),
            }
        },
        "/openapi.json": {
            "get": {"summary": "This description", "responses": _answers(_json("OpenAPI 3.1", {"type": "object"}))}
        },
        "/files": {
            "options": {
                "summary": "What of tus is spoken",
                "responses": _answers({"description": "see headers"}, status="204"),
            },
            "post": {
                "summary": "Begin an upload that can be resumed (tus 1.0.0)",
                "parameters": [_TUS, _parameter("Upload-Length", "header", _BYTES)],
                "responses": _answers({"description": "see Location"}, 412, 413, 503, 507, status="201"),
            },
        },
        "/files/{name}": {
            "options": {
                "summary": "What of tus is spoken",
                "parameters": [_NAME],
                "responses": _answers({"description": "see headers"}, status="204"),
            },
            "head": {
                "summary": "How much of an upload has come",
                "parameters": [_NAME, _TUS],
                "responses": _answers({"description": "see Upload-Offset and Ingest-Job-Id"}, 404, 412, 503),
            },
            "patch": {
                "summary": "Add to an upload; the last byte makes it a job",
                "parameters": [_NAME, _TUS, _parameter("Upload-Offset", "header", _BYTES)],
                "requestBody": {"required": True, "content": {"application/offset+octet-stream": {}}},
                "responses": _answers(
                    {"description": "see Upload-Offset and Ingest-Job-Id"},
                    *(404, 408, 409, 412, 413, 415, 423, 503, 507),
                    status="204",
                ),
            },
            "delete": {
                "summary": "Give an upload up",
                "parameters": [_NAME, _TUS],
                "responses": _answers({"description": "it is gone"}, 404, 412, 423, status="204"),
            },
        },
    },
    "components": {"schemas": {"State": _STATE, "Listed": _LISTED, "Job": _JOB, "Error": _ERROR}},
}
