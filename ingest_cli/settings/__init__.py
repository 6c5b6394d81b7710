"""The settings: what can be set, where each value comes from, what it must look like, and what they make together.

They are built once and then frozen. Imports nothing but errors.
"""

from .cluster import Cluster, PostgresUrl
from .defaults import Defaults, Ids
from .endpoint import Endpoint, split_http_url
from .notifications import EVENT_KINDS, EventKind, Notifications, ReceiverKind
from .options import Option
from .s3 import ObjectStore, S3Access
from .server import ServerAccess, root_path_of
from .site import Confirm, Settings, load_settings, settings_of
from .timings import Timings
from .upload import UploadSettings, upload_endpoint
from .values import Value, config_path, homeless, login_name, read_values
from .watch import WatchSettings

__all__ = [
    "EVENT_KINDS",
    "Cluster",
    "Confirm",
    "Defaults",
    "Endpoint",
    "EventKind",
    "Ids",
    "Notifications",
    "ObjectStore",
    "Option",
    "PostgresUrl",
    "ReceiverKind",
    "S3Access",
    "ServerAccess",
    "Settings",
    "Timings",
    "UploadSettings",
    "Value",
    "WatchSettings",
    "config_path",
    "homeless",
    "load_settings",
    "login_name",
    "read_values",
    "root_path_of",
    "settings_of",
    "split_http_url",
    "upload_endpoint",
]
