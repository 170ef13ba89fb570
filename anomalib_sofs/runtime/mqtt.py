"""Results told to an MQTT broker: each waits as a file until the broker has acknowledged it."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from anomalib_sofs.results.files import written_whole

logger = logging.getLogger(__name__)

WAITING = "mqtt"
"""Folder beside the results for what was not acknowledged yet."""
PORT = 1883
USER, PASSWORD = "MQTT_USERNAME", "MQTT_PASSWORD"
PATIENCE_S = 5.0
"""How long the broker may take for what still waits when it is stopped; the next start tells the rest."""
PAUSE_S = 0.1
SLOWEST_S = 10
"""Longest pause between two attempts to reach the broker."""


class Broker:
    """Publishes lines with QoS 1: each at least once, in their order. The connection is not encrypted.

    Args:
        address: ``HOST`` or ``HOST:PORT``. User and password come from ``MQTT_USERNAME`` and ``MQTT_PASSWORD``.
        topic: Topic of all lines.
        folder: Folder of the results.

    Raises:
        RuntimeError: If paho-mqtt is not installed.
        ValueError: If the address or the topic is none.
    """

    def __init__(self, address: str, topic: str, folder: Path) -> None:
        try:
            from paho.mqtt import client, enums  # noqa: PLC0415 - an extra
        except ImportError as error:
            msg = "--mqtt needs the package paho-mqtt: pip install 'anomalib-sofs[mqtt]'."
            raise RuntimeError(msg) from error
        self._host, _, port = address.partition(":")
        if not self._host or not (port or str(PORT)).isdigit():
            msg = f"{address!r} is no broker: --mqtt takes HOST or HOST:PORT."
            raise ValueError(msg)
        self._port = int(port or PORT)
        if not topic or set(topic) & {"+", "#"}:
            msg = f"{topic!r} is no topic to publish to: + and # are for those who listen."
            raise ValueError(msg)
        self._topic, self._folder = topic, folder / WAITING
        self._stop = Event()
        self._reached: bool | None = None
        self._client = client.Client(enums.CallbackAPIVersion.VERSION2)
        if USER in os.environ:
            self._client.username_pw_set(os.environ[USER], os.environ.get(PASSWORD))
        self._client.reconnect_delay_set(1, SLOWEST_S)
        self._client.on_connect = lambda _c, _data, _flags, reason, _more: self._tell(
            "" if reason == 0 else str(reason)
        )
        self._client.on_connect_fail = lambda *_: self._tell("it does not answer")
        self._client.on_disconnect = lambda _c, _data, _flags, reason, _more: self._tell(str(reason))

    def put(self, line: dict[str, Any]) -> None:
        """Keep a line until the broker has acknowledged it.

        Raises:
            UnwritableError: If it cannot be written.
        """
        with written_whole(self._folder / f"{time.time_ns():020}.json") as file:
            file.write(json.dumps(line, ensure_ascii=False).encode())

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Publish what waits and what comes, as long as the context lasts."""
        self._client.connect_async(self._host, self._port)
        self._client.loop_start()
        thread = Thread(target=self._publish, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end = time.monotonic() + PATIENCE_S
            while self._waiting() and self._reached and time.monotonic() < end:
                time.sleep(PAUSE_S)
            self._stop.set()
            thread.join()
            self._client.on_disconnect = None
            self._client.disconnect()
            self._client.loop_stop()
            if left := self._waiting():
                logger.warning("%d result(s) wait in %s for the broker %s.", len(left), self._folder, self._host)

    def _waiting(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.json"))

    def _publish(self) -> None:
        while not self._stop.wait(PAUSE_S):
            for file in self._waiting():
                while not self._client.is_connected():
                    if self._stop.wait(PAUSE_S):
                        return
                told = self._client.publish(self._topic, file.read_bytes(), qos=1)
                while not told.is_published():  # tried again by paho when the connection is lost and made again
                    if self._stop.wait(PAUSE_S / 10):
                        return
                file.unlink()

    def _tell(self, fault: str) -> None:
        """Say when the broker is lost, and when it is back."""
        if fault and self._reached is not False:
            msg = "The broker %s:%d cannot be reached (%s): results wait in %s."
            logger.warning(msg, self._host, self._port, fault, self._folder)
        elif not fault and self._reached is False:
            logger.warning("The broker %s:%d is back.", self._host, self._port)
        self._reached = not fault
