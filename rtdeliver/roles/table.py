"""The roles, by the names that twistd and the settings give them."""

from collections.abc import Callable, Mapping
from typing import Any

from rtdeliver.config.sections import Config
from rtdeliver.process.host import IHost
from rtdeliver.process.service import RoleService
from rtdeliver.roles.combined import build_combined
from rtdeliver.roles.dispatcher import build_dispatcher
from rtdeliver.roles.frontend import build_frontend
from rtdeliver.roles.latency import build_latency
from rtdeliver.roles.likes import build_likes

Build = Callable[[Config, Any, IHost], RoleService]
"""Puts a role together; raises `ConfigError` if a setting that it needs is missing or wrong."""

ROLES: Mapping[str, Build] = {
    "rtcombined": build_combined,
    "rtdispatcher": build_dispatcher,
    "rtfrontend": build_frontend,
    "rtlatency": build_latency,
    "rtlikes": build_likes,
}
