"""A cluster gives what one process gives, and loses nothing with a worker or a machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from .helpers_runtime import contents, part, parts, small_bundle
from .helpers_scripts import ENVIRONMENT, SCRIPTS, run

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    from anomalib_sofs.cli import main

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("anomalib_sofs.runtime.ray_engine.SofsInferencer", lambda _: type("", (), {"support": None}))
    Image.fromarray(part(seed=1)).save(tmp_path / "a.png")
    assert main(["run", "BUNDLE", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("anomalib-sofs run: --engine ray needs Ray Data (")
    assert said.endswith("): pip install 'anomalib-sofs[ray]'.\n")
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_does_not_answer_is_said_at_once(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray")
    from anomalib_sofs.cli import main

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("anomalib_sofs.runtime.ray_engine.SofsInferencer", lambda _: type("", (), {"support": None}))
    Image.fromarray(part(seed=1)).save(tmp_path / "a.png")
    assert main(["run", "BUNDLE", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"]) == 2
    message = "anomalib-sofs run: No Ray cluster answers at 127.0.0.1:1, which RAY_ADDRESS names ("
    assert capsys.readouterr().err.startswith(message)


def test_a_url_needs_ray_and_nothing_imports_it_before(tmp_path):
    done = run("anomalib-sofs", "run", "BUNDLE", "s3://a/b", "--out", "x", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == "anomalib-sofs run: s3://a/b is no folder of this machine: --engine ray takes URLs.\n"
    code = (
        "import sys, anomalib_sofs.runtime.ray_engine; print({'ray', 'torch', 'fsspec', 'pyarrow'} & set(sys.modules))"
    )
    assert run("python", "-c", code, cwd=tmp_path).stdout.strip() == "set()"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle") / "pits")


def parent_of(number):
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1]


class TwoMachines:
    """A local cluster of two nodes with a core each."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | ENVIRONMENT | QUIET, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.address = self._process.stdout.readline().strip()
        assert self.address

    def lose_one(self):
        """Kill the second machine."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "removed\n"

    def workers(self):
        """Processes that search images, by number: grandchildren of the process that started the cluster."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    ours = parent_of(parent_of(process.name)) == str(self._process.pid)
                    if ours and b"MapWorker" in (process / "cmdline").read_bytes():
                        found.append(int(process.name))
                except OSError:  # has ended meanwhile
                    continue
        return found

    def close(self):
        self._process.communicate(timeout=60)


@pytest.fixture
def cluster():
    pytest.importorskip("ray")
    made = TwoMachines()
    yield made
    made.close()


def command(bundle, images, out):
    return ["anomalib-sofs", "run", bundle, images, "--out", out, "--engine", "ray"]


@pytest.mark.slow
def test_two_machines_write_what_one_process_writes_and_search_nothing_twice(bundle, cluster, tmp_path):
    images = parts(tmp_path / "images")
    local = run(
        "anomalib-sofs", "run", bundle, tmp_path / "images", "--out", tmp_path / "one", cwd=tmp_path, check=False
    )
    assert local.returncode == 1
    remote = run(
        *command(bundle, f"file://{tmp_path}/images", f"file://{tmp_path}/two"), cwd=tmp_path, check=False,
        env={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    assert remote.returncode == 1, remote.stderr
    reason = f"  {tmp_path}/images/right/broken.png is a file of 12 bytes that is no readable image"
    for done in (local, remote):
        assert "1 of 7 images could not be read and have no results:" in done.stderr
        assert reason in done.stderr
    assert f"Masks, maps, regions, COCO and LabelMe files: {tmp_path}/two/predictions" in remote.stdout
    assert contents(tmp_path / "two/predictions") == contents(tmp_path / "one/predictions")
    assert {path.stat().st_nlink for path in images} == {3}  # LabelMe's images are links here, too

    images[0].touch()
    again = run(
        *command(bundle, tmp_path / "images", tmp_path / "two"), cwd=tmp_path, check=False,
        env={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    assert "5 of 6 images had results of this bundle already." in again.stderr
    assert len(json.loads((tmp_path / "two/predictions/coco.json").read_text())["images"]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("what", ["worker", "machine", "driver"])
def test_nothing_is_lost_with_a_worker_or_a_machine_or_the_program_itself(bundle, cluster, tmp_path, what):
    parts(tmp_path / "images", 24)
    run("anomalib-sofs", "run", bundle, tmp_path / "images", "--out", tmp_path / "one", cwd=tmp_path, check=False)
    words = command(bundle, tmp_path / "images", tmp_path / "two")
    environment = os.environ | ENVIRONMENT | {"RAY_ADDRESS": cluster.address}
    words[0] = SCRIPTS / words[0]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while len(list((tmp_path / "two/predictions").glob("*/part*.json"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    if what == "worker":
        os.kill(cluster.workers()[0], 9)
    elif what == "machine":
        cluster.lose_one()
    else:
        process.kill()
        process.communicate()
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 1, said  # the broken one
    assert contents(tmp_path / "two/predictions") == contents(tmp_path / "one/predictions")
    assert not (tmp_path / "two/predictions_2").exists()


@pytest.mark.slow
def test_images_and_results_at_urls(bundle, tmp_path):
    """S3, as a server on this machine speaks it: with a second run, with nothing written where it must not be."""
    pytest.importorskip("ray")
    s3fs = pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    try:
        files = s3fs.S3FileSystem(**dict(zip(("endpoint_url", "key", "secret"), keys.values(), strict=False)))
        parts(tmp_path / "images", 4)
        files.mkdir("plant")
        files.put(str(tmp_path / "images"), "plant/images", recursive=True)
        words = [*command(bundle, "s3://plant/images", "s3://plant/out"), "--workers", "2"]
        first = run(*words, cwd=tmp_path, env=keys, check=False)
        assert first.returncode == 1, first.stderr
        assert "s3://plant/images/right/broken.png is a file of 12 bytes that is no readable image" in first.stderr
        second = run(*words, cwd=tmp_path, env=keys, check=False)
        assert "4 of 4 images had results of this bundle already." in second.stderr
        run("anomalib-sofs", "run", bundle, tmp_path / "images", "--out", tmp_path / "one", cwd=tmp_path, check=False)
        files.get("plant/out/predictions", str(tmp_path / "two"), recursive=True)
        two, one = contents(tmp_path / "two"), contents(tmp_path / "one/predictions")
        assert set(two) == {name for name in one if not name.startswith("labelme")}
        assert {name: two[name] for name in two if name.endswith((".png", "coco.json"))} == {
            name: one[name] for name in two if name.endswith((".png", "coco.json"))
        }
        assert json.loads(two["left/part_1.json"])["image"] == "s3://plant/images/left/part_1.png"
    finally:
        server.stop()
    assert {path.name for path in tmp_path.iterdir()} == {"images", "one", "two"}
