"""Results on an MQTT broker: a real one, that goes away and comes back."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from queue import Empty, Queue

import pytest

from anomalib_sofs.runtime.mqtt import Broker

from .helpers_runtime import parts, small_bundle
from .helpers_scripts import ENVIRONMENT, SCRIPTS

mqtt = pytest.importorskip("paho.mqtt.client")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto here: apt-get install mosquitto")


class Mosquitto:
    """A broker that keeps what it has for those who were there once."""

    def __init__(self, folder, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "user root"]
        self._config.write_text("\n".join([*lines, *(options or ["allow_anonymous true"])]) + "\n")
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail("mosquitto does not answer")

    def stop(self):
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def broker(tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Mosquitto(folder)
    yield made
    made.stop()


class Listener:
    """Hears all lines of a topic, also those that are told while it is away."""

    def __init__(self, port, topic, **account):
        self._heard, ready = Queue(), Queue()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        if account:
            self._client.username_pw_set(**account)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: ready.put(None)
        self._client.on_message = lambda _client, _data, message: self._heard.put(json.loads(message.payload))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        ready.get(timeout=30)

    def next(self, seconds=60):
        return self._heard.get(timeout=seconds)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def listener(broker):
    made = Listener(broker.port, "line/3")
    yield made
    made.close()


@needs_mosquitto
def test_nothing_is_lost_when_the_broker_goes_away_and_comes_back(broker, listener, tmp_path, caplog):
    teller = Broker(broker.address, "line/3", tmp_path / "out")
    with teller.publishing():
        teller.put({"image": "ä.png", "score": 0.5})
        assert listener.next() == {"image": "ä.png", "score": 0.5}
        while list((tmp_path / "out/mqtt").iterdir()):  # it is heard before it is acknowledged
            time.sleep(0.01)
        broker.stop()
        for number in range(50):
            teller.put({"number": number})
        assert len(list((tmp_path / "out/mqtt").iterdir())) == 50
        broker.start()
        assert [listener.next()["number"] for _ in range(50)] == list(range(50))
    assert list((tmp_path / "out/mqtt").iterdir()) == []
    assert "can be reached" not in caplog.text
    assert f"The broker {broker.address} cannot be reached (" in caplog.text
    assert f"): results wait in {tmp_path / 'out/mqtt'}." in caplog.text
    assert f"The broker {broker.address} is back." in caplog.text
    with pytest.raises(Empty):  # nothing twice either, in this case
        listener.next(0.3)


@needs_mosquitto
def test_user_and_password_come_from_the_environment(tmp_path, monkeypatch, caplog):
    (tmp_path / "broker").mkdir()
    passwords = tmp_path / "broker/passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "camera", "secret"], check=True)
    broker = Mosquitto(tmp_path / "broker", f"password_file {passwords}", "allow_anonymous false")
    listener = Listener(broker.port, "anomalib-sofs", username="camera", password="secret")  # noqa: S106
    try:
        with (teller := Broker(broker.address, "anomalib-sofs", tmp_path)).publishing():
            teller.put({"number": 1})
            with pytest.raises(Empty):
                listener.next(1)
        assert "cannot be reached (Not authorized): results wait in" in caplog.text
        assert "1 result(s) wait in" in caplog.text
        monkeypatch.setenv("MQTT_USERNAME", "camera")
        monkeypatch.setenv("MQTT_PASSWORD", "secret")
        with Broker(broker.address, "anomalib-sofs", tmp_path).publishing():
            assert listener.next() == {"number": 1}
    finally:
        listener.close()
        broker.stop()


@needs_mosquitto
def test_watch_tells_the_broker_what_it_says_and_what_waited_since_it_was_killed(broker, listener, tmp_path):
    """Told are the lines of standard output; a start without a broker, ended by force, loses none of them."""
    pytest.importorskip("watchdog")
    bundle = small_bundle(tmp_path / "bundle")
    parts(tmp_path / "camera", 3)
    os.utime(tmp_path / "camera/right/broken.png", (0, 0))  # nobody writes it any more
    broker.stop()
    words = [
        SCRIPTS / "anomalib-sofs", "watch", bundle, tmp_path / "camera", "--out", tmp_path / "out", "--mqtt",
        broker.address, "--topic", "line/3",
    ]  # fmt: skip
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | ENVIRONMENT}
    process = subprocess.Popen(words, **settings)
    said = [json.loads(process.stdout.readline()) for _ in range(4)]
    process.kill()
    assert f"The broker {broker.address} cannot be reached" in process.communicate()[1]
    broker.start()
    process = subprocess.Popen(words, **settings)
    assert [listener.next() for _ in range(4)] == said
    assert sum("error" in line for line in said) == 1
    process.terminate()
    process.communicate()
    assert list((tmp_path / "out/mqtt").iterdir()) == []


@pytest.mark.parametrize(
    ("address", "topic", "message"),
    [
        (":1883", "line", "':1883' is no broker: --mqtt takes HOST or HOST:PORT."),
        ("host:x", "line", "'host:x' is no broker: --mqtt takes HOST or HOST:PORT."),
        ("host", "line/#", "'line/#' is no topic to publish to: + and # are for those who listen."),
    ],
)
def test_what_cannot_be_told_to_is_said_at_once(tmp_path, address, topic, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Broker(address, topic, tmp_path)


def test_without_paho_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(RuntimeError, match=r"--mqtt needs the package paho-mqtt: pip install 'anomalib-sofs\[mqtt\]'"):
        Broker("host", "line", tmp_path)
