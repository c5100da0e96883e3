"""A real Sentinel, which makes a replica the master."""

import subprocess
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from tests.integration.redis_server import RedisServer, find_redis_server
from tests.integration.roles import eventually, fixed_port


class Sentinel:
    """Watches a master and fails over to its replica; a context manager."""

    def __init__(self, master: RedisServer, folder: Path, password: str | None = None) -> None:
        self.port = fixed_port()
        self._password = password
        self._server = find_redis_server()
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 1000\n"
            "sentinel failover-timeout main 5000\n"
            + (f"requirepass {password}\n" if password else "")
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Sentinel":
        self._process = subprocess.Popen(
            [self._server, str(self._file), "--sentinel"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: self.told().get("num-slaves") == 1, "it knows the replica")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def told(self) -> dict[str, Any]:
        """What it tells of the master; nothing while it does not answer."""
        try:
            client = redis.Redis(port=self.port, password=self._password, decode_responses=True)
            told = client.sentinel_master("main")
        except RedisError:
            return {}
        assert isinstance(told, dict)
        return told


def in_step(replica: RedisServer) -> bool:
    told = replica.client.info("replication")
    assert isinstance(told, dict)
    return bool(told["master_link_status"] == "up")
