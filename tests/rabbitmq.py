"""RabbitMQ for the tests, where Debian's package `rabbitmq-server` is installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kombu import Connection

from tasker.dev.child import Child
from tasker.dev.places import data_folder, socket_folder
from tasker.dev.users import server_user

PROGRAM = shutil.which("/usr/lib/rabbitmq/bin/rabbitmq-server")
USER = "tests"
QUEUES = ("celery", "assorted")
"""Those of the tests' applications."""


@contextmanager
def start_rabbitmq(folder: Path, hosts: Sequence[str]) -> Iterator[str]:
    """A RabbitMQ server with these virtual hosts; yields its URL, to which the name of one is to be added."""
    assert PROGRAM is not None
    place = data_folder(folder)
    user = server_user(place)
    home = socket_folder(place, user)  # which that user can reach
    port, own_port, names_port = free_ports(3)
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {home}/definitions.json\n"
    )
    (home / "definitions.json").write_text(json.dumps(definitions(hosts)))
    environment = {
        "HOME": str(home),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names_port),
        "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
        "RABBITMQ_DIST_PORT": str(own_port),
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
        "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_MNESIA_BASE": f"{home}/data",
        "RABBITMQ_NODENAME": "tests@localhost",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        "RUNNING_UNDER_SYSTEMD": "true",  # so that the script becomes the server
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    child = Child(["/usr/bin/env", *words, PROGRAM], log=place / "rabbitmq.log", user=user)
    try:
        url = f"amqp://{USER}:{USER}@127.0.0.1:{port}/"
        child.await_ready(lambda: answers(url + hosts[-1]))
        yield url
    finally:
        child.stop()
        # Erlang leaves its name server behind
        command = ["/usr/bin/epmd", "-port", str(names_port), "-kill"]
        subprocess.run(command, check=False, capture_output=True)
        shutil.rmtree(home)


def definitions(hosts: Sequence[str]) -> dict[str, object]:
    """One user who may do everything in each virtual host."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [{"name": USER, "password": USER, "tags": "administrator"}],
        "vhosts": [{"name": host} for host in hosts],
        "permissions": [{"user": USER, "vhost": host, **everything} for host in hosts],
    }


def answers(url: str) -> bool:
    """Whether a client can open a channel there."""
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.connect()
    except (OSError, *Connection(url).connection_errors):
        return False
    return True


def purge(url: str) -> None:
    """Drop every message that waits in a virtual host."""
    with Connection(url) as connection:
        for queue in QUEUES:
            with connection.channel() as channel, suppress(connection.channel_errors):
                channel.queue_purge(queue)


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
