"""Only files of the two folders are served or written, and only to whoever may see them."""

import base64
import http.client
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from .conftest import laid_out

pytestmark = pytest.mark.browser
OURS = {"X-Anomalib-Sofs": "1", "Content-Type": "application/json"}
OUTSIDE = "this stands in no folder of the page"


def talk(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in (headers or {}))
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if body is not None:
        connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content or None)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.fixture(scope="module")
def parts(tmp_path_factory, scratched):
    folder = laid_out(tmp_path_factory.mktemp("parts"), scratched)
    (folder / "secret.png").write_bytes(OUTSIDE.encode())
    Image.new("RGB", (64, 64)).save(folder / "outside.png")
    (folder / "images/link.png").symlink_to(folder / "outside.png")
    (folder / "images/dir").symlink_to(folder)
    return folder


@pytest.fixture(scope="module")
def server(parts, serve):
    return serve(parts / "images", parts / "support")


def test_nothing_outside_of_the_folders_is_served(parts, server):
    assert any("link.png is a link out of" in line for line in server.said)
    names = [
        "../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", f"{parts}/secret.png", "link.png", "dir/secret.png",
        "/etc/passwd", "part_4.png/../../secret.png", "part_4.png%00", "", "support/classes.txt",
    ]  # fmt: skip
    for name in names:
        for path in (
            "tile?scale=1&x=0&y=0&",
            "overlay?scale=1&x=0&y=0&",
            "thumbnail?",
            "cut?x=0&y=0&width=9&height=9&",
            "finds?step=1&",
        ):
            status, content = talk(server, "GET", f"/sofs/{path}image={name}")
            assert (status, OUTSIDE.encode() in content) == (404, False), (path, name)
    for path in (
        "/../secret.png", "/sofs/../../secret.png", "/sofs/%2e%2e/%2e%2e/secret.png", f"/gradio_api/file={parts}/secret.png",
        f"/gradio_api/file={parts}/images/part_4.png", f"/file={parts}/secret.png", "/gradio_api/file=/etc/passwd",
        f"//{parts}/secret.png", "/static/../../../secret.png", f"/gradio_api%2ffile={parts}/secret.png",
        "/sofs/download?what=../secret.png", "/sofs/download?what=.page", f"/sofs/download?what={parts}", "/sofs/download?what=image",
    ):  # fmt: skip
        status, content = talk(server, "GET", path)
        assert OUTSIDE.encode() not in content, path
        assert status in {307, 400, 403, 404}, path
    assert talk(server, "GET", "/sofs/tile?scale=1&x=0&y=0&image=part_4.png")[0] == 200
    assert talk(server, "GET", "/sofs/tile?scale=1&x=7&y=0&image=part_4.png")[0] == 400


def test_a_link_that_replaces_a_listed_image_is_not_followed(parts, server):
    (parts / "images/part_3.png").unlink()
    (parts / "images/part_3.png").symlink_to(parts / "outside.png")
    assert talk(server, "GET", "/sofs/tile?scale=1&x=0&y=0&image=part_3.png")[0] == 404


def test_nothing_outside_of_the_support_folder_is_written(parts, server):
    before = sorted(path for path in parts.rglob("*") if ".page" not in path.parts)
    stroke = {"tool": "rectangle", "points": [[1, 1], [9, 9]]}
    for name, label in (
        ("../secret.png", "pit"),
        (f"{parts}/secret.png", "pit"),
        ("part_4.png", "../pit\n"),
        ("part_4.png", ""),
    ):
        body = {"image": name, "stroke": stroke, "label": label, "revision": "x"}
        assert talk(server, "POST", "/sofs/paint", body, OURS)[0] in {400, 404, 409}
    assert sorted(path for path in parts.rglob("*") if ".page" not in path.parts) == before


def test_a_support_folder_with_a_link_out_of_it_is_refused(parts):
    (parts / "elsewhere").mkdir()
    (parts / "linked").mkdir()
    (parts / "linked/mask").symlink_to(parts / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "anomalib_sofs.cli", "page", "--images", parts / "images", "--support", parts / "linked"],
        capture_output=True, text=True, timeout=120, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "mask is a link out of" in done.stderr


def test_uploads_are_limited_and_checked(server):
    assert talk(server, "POST", "/sofs/paint", b"x" * (2**20 + 1), OURS)[0] == 413
    assert (
        talk(server, "POST", "/gradio_api/upload", b"x", {"Content-Type": "multipart/form-data; boundary=x"})[0] == 404
    )
    assert talk(server, "POST", "/sofs/paint", b"no JSON", OURS)[0] == 400
    assert talk(server, "POST", "/sofs/paint", [1], OURS)[0] == 400
    chunked = OURS | {"Transfer-Encoding": "chunked"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/sofs/paint", iter([b"x" * 2**16] * 32), chunked, encode_chunked=True)
        assert connection.getresponse().status >= 400
    except (ConnectionError, http.client.HTTPException):
        pass  # it hung up


def test_other_web_sites_change_nothing_and_see_nothing(parts, server):
    body = {
        "image": "part_4.png",
        "stroke": {"tool": "rectangle", "points": [[1, 1], [9, 9]]},
        "label": "pit",
        "revision": "",
    }
    assert talk(server, "POST", "/sofs/paint", body, {"Content-Type": "text/plain"})[0] == 403
    assert talk(server, "POST", "/sofs/paint", body, OURS | {"Origin": "http://evil.example"})[0] == 403
    assert talk(server, "POST", "/gradio_api/queue/join", body, {"Origin": "http://evil.example"})[0] == 403
    assert talk(server, "GET", "/sofs/state", headers={"Host": "evil.example"})[0] == 421
    assert not (parts / "support/mask").exists()


def test_another_address_needs_a_password(parts, serve):
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "anomalib_sofs.cli",
        "page",
        "--images",
        parts / "images",
        "--support",
        parts / "s",
    ]
    done = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=120, check=False)  # noqa: S104
    assert done.returncode == 2
    assert "--host 0.0.0.0 lets others reach the page: choose a --password for it." in done.stderr
    server = serve(parts / "images", parts / "s", "--host", "0.0.0.0", "--password", "grün")  # noqa: S104

    def status(password):
        known = base64.b64encode(f"me:{password}".encode()).decode()
        return talk(server, "GET", "/sofs/state", headers={"Authorization": f"Basic {known}"})[0]

    assert talk(server, "GET", "/sofs/state")[0] == 401
    assert talk(server, "GET", "/")[0] == 401
    assert [status("wrong"), status(""), status("grün")] == [401, 401, 200]
