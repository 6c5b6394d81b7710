"""What can be set: the place of each option in config.ini, its environment variable, and what it means.

Sections and variables are those of Pacifica Ingest, so that a site can point at the file it has. What only Pacifica's
own processes need (celery, peewee) is accepted and ignored.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its place in config.ini, its environment variable, and what it means.

    Where its variable is not set, the first that is of those that ``also`` have such a value counts.
    """

    section: str
    key: str
    variable: str
    meaning: str
    secret: bool = False
    also: tuple[str, ...] = ()


DATABASE = Option("database", "path", "INGEST_DB", "the job store, an SQLite file")
DATABASE_URL = Option(
    "database",
    "url",
    "INGEST_DATABASE_URL",
    "the job store of several hosts, a PostgreSQL database",
)
VOLUME_PATH = Option("ingest", "volume_path", "VOLUME_PATH", "the spool folder, for incoming bundles")
SHARED_SPOOL = Option(
    "ingest",
    "shared_spool",
    "INGEST_SHARED_SPOOL",
    "where the servers of several hosts keep uploads: s3://BUCKET/PREFIX; the spool folder if it is empty",
)
DEFAULT_USER = Option("ingest", "default_user", "INGEST_DEFAULT_USER", "the user the policy applies to")
AUTH_HEADER = Option(
    "ingest", "auth_header", "INGEST_AUTH_HEADER", "the header that names the user to a policy service"
)
SERVICE_TIMEOUT = Option(
    "ingest", "service_timeout", "INGEST_SERVICE_TIMEOUT", "how many seconds a service over HTTP may take to answer"
)
RETRIES = Option(
    "ingest", "retries", "INGEST_RETRIES", "how many times a job that fails for now is retried; 0: it has failed"
)
DOCUMENT_LIMIT = Option(
    "ingest", "document_limit", "INGEST_DOCUMENT_LIMIT", "how many MiB a metadata document may have that is ingested"
)
UNIQUEID_URL = Option(
    "uniqueid", "url", "UNIQUEID_URL", "where ids come from: an SQLite file, PostgreSQL, or a service"
)
POLICY_URL = Option(
    "policy",
    "ingest_url",
    "POLICY_INGEST_URL",
    "who may ingest what: a JSON Schema for metadata documents, or a service",
)
ARCHIVE_URL = Option(
    "archiveinterface",
    "url",
    "ARCHIVEINTERFACE_URL",
    "where files are kept: a folder, s3://BUCKET/PREFIX, or a service",
)
CATALOG_URL = Option(
    "metadata", "ingest_url", "METADATA_INGEST_URL", "where metadata is kept: an SQLite file, PostgreSQL, or a service"
)
TRANSFERS = Option(
    "archiveinterface",
    "transfers",
    "ARCHIVEINTERFACE_TRANSFERS",
    "how many files an archive that is no folder takes at once",
)
THREADS = Option(
    "archiveinterface", "threads", "ARCHIVEINTERFACE_THREADS", "how many threads write the files of a job into a folder"
)
REMOTE_SOURCES = Option(
    "archiveinterface",
    "remote_sources",
    "ARCHIVEINTERFACE_REMOTE_SOURCES",
    "yes if only the archive service can see the files to move",
)
DIGEST = Option(
    "archiveinterface",
    "digest",
    "ARCHIVEINTERFACE_DIGEST",
    "which second digest a folder keeps of each file: none or blake3",
)
CONFIRM = Option(
    "archiveinterface",
    "confirm",
    "ARCHIVEINTERFACE_CONFIRM",
    "which files' stored sizes to confirm with an archive service: sample or all",
)
PACK_BELOW = Option(
    "archiveinterface",
    "pack_below",
    "ARCHIVEINTERFACE_PACK_BELOW",
    "which files are packed together in storage that speaks S3: those of fewer bytes, as in 1MiB; 0: none",
)
S3_ENDPOINT = Option(
    "s3",
    "endpoint",
    "AWS_ENDPOINT_URL_S3",
    "the URL of the storage that speaks S3; Amazon's if it is empty",
    also=("AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
)
S3_REGION = Option("s3", "region", "AWS_REGION", "the storage's region", also=("AWS_DEFAULT_REGION",))
S3_KEY_ID = Option("s3", "access_key_id", "AWS_ACCESS_KEY_ID", "the id of the access key")
S3_SECRET = Option("s3", "secret_access_key", "AWS_SECRET_ACCESS_KEY", "the access key's secret", secret=True)
S3_TOKEN = Option(
    "s3", "session_token", "AWS_SESSION_TOKEN", "the token of an access key that is of one session", secret=True
)
S3_CA_FILE = Option("s3", "ca_file", "AWS_CA_BUNDLE", "CA certificates to trust besides the system's (PEM)")
S3_ADDRESSING = Option(
    "s3",
    "addressing",
    "INGEST_S3_ADDRESSING",
    "whether the bucket is in the path or in the name of the host: path, host",
)
SERVER_TOKEN = Option(
    "server", "token", "INGEST_SERVER_TOKEN", "the bearer token that the server requires", secret=True
)
SERVER_USERNAME = Option("server", "username", "INGEST_SERVER_USERNAME", "the user name that the server requires")
SERVER_PASSWORD = Option(
    "server", "password", "INGEST_SERVER_PASSWORD", "the password that the server requires", secret=True
)
TRUSTED_PROXIES = Option(
    "server",
    "trusted_proxies",
    "INGEST_TRUSTED_PROXIES",
    "the addresses of proxies, separated by spaces, whose auth_header and X-Forwarded headers the server trusts",
)
ROOT_PATH = Option("server", "root_path", "INGEST_ROOT_PATH", "the path below which a proxy offers the server")
MOVE_FROM = Option(
    "server",
    "move_from",
    "INGEST_MOVE_FROM",
    f"the folders, separated by {os.pathsep!r}, from which the server moves files; none if it is empty",
)
DOWNLOADS = Option(
    "server", "downloads", "INGEST_DOWNLOADS", "yes if the server returns what is stored to those who submitted it"
)
READERS = Option(
    "server",
    "readers",
    "INGEST_READERS",
    "the users, separated by spaces, to whom the server returns what anyone has submitted; * for all of them",
)
ADMINISTRATORS = Option(
    "server",
    "administrators",
    "INGEST_ADMINISTRATORS",
    "the users, separated by spaces, who may retry, cancel and discard anyone's jobs in a browser; * for all of them",
)
NOTIFICATIONS_URL = Option("notifications", "url", "NOTIFICATIONS_URL", "where events are sent: a service over HTTP")
NOTIFICATIONS_COMMAND = Option(
    "notifications", "command", "NOTIFICATIONS_COMMAND", "a command that is given each event on its standard input"
)
NOTIFICATIONS_DISABLED = Option("notifications", "disabled", "NOTIFICATIONS_DISABLED", "yes if no events are sent")
NOTIFICATIONS_EVENTS = Option(
    "notifications", "events", "NOTIFICATIONS_EVENTS", "what events are sent of: ingest, failed, deferred"
)
NOTIFICATIONS_FORMAT = Option(
    "notifications", "format", "NOTIFICATIONS_FORMAT", "the form of events: 0.1, structured or binary"
)
EVENT_TYPE = Option(
    "notifications", "ingest_eventtype", "NOTIFICATIONS_INGEST_EVENT_TYPE", "the type of the event of a recorded job"
)
EVENT_SOURCE = Option(
    "notifications", "ingest_source", "NOTIFICATIONS_INGEST_SOURCE", "the source of events; {_id} is the job"
)
EVENT_ID = Option(
    "notifications",
    "ingest_eventid",
    "NOTIFICATIONS_INGEST_EVENTID",
    "the id of the event of a recorded job; {_id} is the job",
)
UPLOAD_URL = Option("upload", "url", "INGEST_UPLOAD_URL", "the server that 'ingest upload' sends to")
UPLOAD_POLICY_URL = Option(
    "upload",
    "policy_url",
    "INGEST_UPLOAD_POLICY_URL",
    "the policy service that 'ingest upload' asks, for uploader_config",
)
UPLOADER_CONFIG = Option(
    "upload", "uploader_config", "UPLOADER_CONFIG", "what 'ingest upload' asks it: an uploader.json of pacifica-cli"
)
UPLOADS = Option("upload", "folder", "INGEST_UPLOADS", "where 'ingest upload' keeps what it needs to resume uploads")
DEFAULT_SUBMITTER = Option("defaults", "submitter", "INGEST_SUBMITTER", "the submitter's id of folders")
DEFAULT_PROJECT = Option("defaults", "project", "INGEST_PROJECT", "the project's id of folders")
DEFAULT_INSTRUMENT = Option("defaults", "instrument", "INGEST_INSTRUMENT", "the instrument's id of folders")
WATCH_FOLDERS = Option(
    "watch",
    "folders",
    "INGEST_WATCH_FOLDERS",
    f"the drop folders, separated by {os.pathsep!r}, that 'ingest watch' watches where it is given none",
)
WATCH_DONE = Option(
    "watch", "done", "INGEST_WATCH_DONE", "where 'ingest watch' moves what it has ingested; it stays if it is empty"
)
LISTEN = Option(
    "database",
    "listen",
    "INGEST_DATABASE_LISTEN",
    "no where PostgreSQL's notifications do not arrive: workers ask for jobs every second",
)
HOST = Option("cluster", "host", "INGEST_HOST", "the name by which the hosts of an installation tell this one apart")
SHARED = Option(
    "cluster",
    "shared",
    "INGEST_SHARED",
    f"the folders, separated by {os.pathsep!r}, that all hosts see at the same place",
)
PRIORITY = Option(
    "cluster", "priority", "INGEST_PRIORITY", "how urgent the jobs are that are submitted here: the highest run first"
)
JOBS_PER_PROJECT = Option(
    "cluster",
    "jobs_per_project",
    "INGEST_JOBS_PER_PROJECT",
    "how many jobs of one project are run at once, on all hosts together",
)
# What must be somewhere.
PLACES = (DATABASE, VOLUME_PATH, UNIQUEID_URL, ARCHIVE_URL, CATALOG_URL)
SERVICES = {"UNIQUEID": UNIQUEID_URL, "POLICY": POLICY_URL, "ARCHIVEINTERFACE": ARCHIVE_URL, "METADATA": CATALOG_URL}


@dataclass(frozen=True, slots=True)
class Access:
    """The settings for credentials and certificates of one service over HTTP."""

    username: Option
    password: Option
    token: Option
    auth: Option
    ca_file: Option
    client_cert: Option
    client_key: Option

    @classmethod
    def of(cls, prefix: str, section: str) -> "Access":
        """Those of the service whose section this is and whose variables begin with ``prefix``."""

        def option(key: str, meaning: str, *, secret: bool = False) -> Option:
            return Option(section, key, f"{prefix}_{key.upper()}", meaning, secret)

        return cls(
            username=option("username", "the user name for basic authentication"),
            password=option("password", "the password for basic authentication", secret=True),
            token=option("token", "a bearer token", secret=True),
            auth=option("auth", "negotiate, for the user's Kerberos ticket in place of credentials"),
            ca_file=option("ca_file", "CA certificates to trust instead of the system's (PEM)"),
            client_cert=option("client_cert", "a client certificate (PEM)"),
            client_key=option("client_key", "the client certificate's key, if it is in a separate file (PEM)"),
        )

    @property
    def options(self) -> tuple[Option, ...]:
        """All seven."""
        return (self.username, self.password, self.token, self.auth, self.ca_file, self.client_cert, self.client_key)


ACCESS = {
    url: Access.of(prefix, url.section)
    for prefix, url in {**SERVICES, "NOTIFICATIONS": NOTIFICATIONS_URL, "INGEST_UPLOAD": UPLOAD_URL}.items()
}
# Whose values may hold a password.
URLS = {*ACCESS, UPLOAD_POLICY_URL, DATABASE_URL, S3_ENDPOINT}
OPTIONS = (
    DATABASE,
    DATABASE_URL,
    VOLUME_PATH,
    SHARED_SPOOL,
    DEFAULT_USER,
    AUTH_HEADER,
    SERVICE_TIMEOUT,
    RETRIES,
    DOCUMENT_LIMIT,
    *SERVICES.values(),
    TRANSFERS,
    THREADS,
    REMOTE_SOURCES,
    CONFIRM,
    DIGEST,
    PACK_BELOW,
    S3_ENDPOINT,
    S3_REGION,
    S3_KEY_ID,
    S3_SECRET,
    S3_TOKEN,
    S3_CA_FILE,
    S3_ADDRESSING,
    SERVER_TOKEN,
    SERVER_USERNAME,
    SERVER_PASSWORD,
    TRUSTED_PROXIES,
    ROOT_PATH,
    MOVE_FROM,
    DOWNLOADS,
    READERS,
    ADMINISTRATORS,
    NOTIFICATIONS_URL,
    NOTIFICATIONS_COMMAND,
    NOTIFICATIONS_DISABLED,
    NOTIFICATIONS_EVENTS,
    NOTIFICATIONS_FORMAT,
    EVENT_TYPE,
    EVENT_SOURCE,
    EVENT_ID,
    UPLOAD_URL,
    UPLOAD_POLICY_URL,
    UPLOADER_CONFIG,
    UPLOADS,
    DEFAULT_SUBMITTER,
    DEFAULT_PROJECT,
    DEFAULT_INSTRUMENT,
    WATCH_FOLDERS,
    WATCH_DONE,
    LISTEN,
    HOST,
    SHARED,
    PRIORITY,
    JOBS_PER_PROJECT,
    *(option for access in ACCESS.values() for option in access.options),
)
USUAL_RETRIES = 19
USUAL_PRIORITY = 50
# Some four million files.
USUAL_DOCUMENT_MIB = 1024
PACIFICA_SECTIONS = ("celery",)
PACIFICA_KEYS = {
    "ingest": ("transfer_size",),
    "database": ("peewee_url", "connect_attempts", "connect_wait"),
    "notifications": tuple(
        f"{kind}_{key}" for kind in ("orm", "doientry", "doiupdate") for key in ("eventtype", "source", "eventid")
    ),
}
