"""The page itself: Gradio's controls around a viewer of our own, served on this machine.

Gradio's image editors resize what they show and keep everything in the browser's memory; the viewer shows tiles at
native resolution and leaves painting to the server. Buttons, the slider and the files to take away are Gradio's.
"""

import ipaddress
import os
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .guard import Guard
from .routes import Routes
from .session import Session
from .take_away import write_bundle, write_report, write_results

HERE = Path(__file__).parent
MISSING = (
    "The page needs Gradio: pip install 'anomalib-sofs[page]'. It brings an older Pillow (below 13), which "
    "anomalib and this package work with, too."
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TITLE = "anomalib-sofs: mark, find, correct"
CSS = """
.gradio-container { max-width: none !important; padding: .6rem .9rem !important; }
.gradio-container .main { padding: 0 !important; }
footer { display: none !important; }
#sofs-controls { align-items: start; gap: .9rem; }
#sofs-controls .column { gap: .5rem; }
#sofs-threshold, #sofs-taken { font-size: .85rem; color: #5b6672; }
#sofs-taken ul { margin: 0; padding-left: 1.1rem; }
"""


def build(session: Session) -> Any:
    """Return the page as an application for a server.

    Raises:
        RuntimeError: If Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr  # noqa: PLC0415
        from fastapi import FastAPI  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeError(MISSING) from error

    def said(call: Callable[..., Any]) -> Callable[..., Any]:
        """Show what is wrong as a message of the page."""

        @wraps(call)
        def told(*values: Any) -> Any:
            try:
                return call(*values)
            except (KeyError, OSError, RuntimeError, ValueError) as error:
                raise gr.Error(str(error), print_exception=False) from None

        return told

    def from_good(folder: str | None, percent: float | None) -> None:
        session.set_good(folder or None, (percent or 0) / 100)
        session.start()

    def links(files: dict[str, str]) -> str:
        listed = "".join(
            f'<li><a href="sofs/download?what={quote(what)}" download>{escape(text)}</a></li>'
            for what, text in files.items()
        )
        return (
            f'<ul>{listed}</ul><small title="{escape(str(session.decisions.root))}">Saved in '
            f"{escape(session.decisions.root.name)}</small>"
        )

    def take_away() -> str:
        results = write_results(session).name
        write_report(session)
        files = {"support": "support folder", results: "results (COCO, LabelMe, CSV, masks)", "report": "report"}
        return links(files)

    def bundle() -> str:
        return links({write_bundle(session).name: "bundle for anomalib-sofs run, without PyTorch"})

    private: Any = {"api_visibility": "private"}
    viewer = f'<div class="sofs" id="sofs">{(HERE / "viewer.html").read_text(encoding="utf-8")}</div>'
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        shown = gr.HTML(
            viewer,
            js_on_load=(HERE / "viewer.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="sofs-viewer",
        )
        with gr.Row(elem_id="sofs-controls"):
            with gr.Column(scale=2, min_width=150):
                gr.Button("Find", variant="primary", elem_id="sofs-find").click(said(session.start), **private)
                gr.Button("Stop", size="sm", elem_id="sofs-stop").click(session.stop, **private)
            with gr.Column(scale=5, min_width=280):
                slider = gr.Slider(
                    *(1, 255, session.settings.step),
                    step=1,
                    label="Threshold: how sure it has to be",
                    elem_id="sofs-slider",
                    buttons=[],
                )
                gr.HTML('<div id="sofs-threshold"></div>')
                slider.input(None, slider, js="(step) => { window.sofs.setStep(step); }", **private)
            with gr.Column(scale=4, min_width=260), gr.Row():
                folder = gr.Dropdown(
                    [("none", ""), *((name, name) for name in session.good_folders)],
                    value=session.settings.good or "",
                    label="Good parts that tell the threshold",
                    elem_id="sofs-good-folder",
                )
                percent = gr.Number(
                    100 * session.settings.false_alarms, label="at most % of them get a region", minimum=0.1, maximum=99
                )
                gr.Button("Use good parts", size="sm", elem_id="sofs-use-good").click(
                    said(from_good), [folder, percent], **private
                )
            with gr.Column(scale=3, min_width=200):
                take = gr.Button("Take it away", size="sm", elem_id="sofs-take")
                export = gr.Button("Make a bundle for the line", size="sm", elem_id="sofs-bundle")
                taken = gr.HTML("<small>Marks are saved as you make them.</small>", elem_id="sofs-taken")
                take.click(said(take_away), outputs=taken, **private)
                export.click(said(bundle), outputs=taken, **private)
        shown.change(lambda: session.settings.step, outputs=slider, **private)
        page.load(lambda: session.settings.step, outputs=slider, **private)
    application = FastAPI(routes=Routes(session).listed(), docs_url=None, redoc_url=None, openapi_url=None)
    css = CSS + (HERE / "viewer.css").read_text(encoding="utf-8")
    fonts = ["system-ui", "sans-serif"]
    return gr.mount_gradio_app(
        application,
        page,
        path="",
        theme=gr.themes.Default(font=fonts, font_mono=["monospace"]),
        css=css,
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        max_file_size=1,
        show_error=True,
    )


def serve(session: Session, port: int, host: str = "127.0.0.1", password: str | None = None) -> None:
    """Serve a session until it is interrupted.

    Args:
        session: The session.
        port: The port.
        host: Address to listen on.
        password: What everybody has to know; needed for any address but this machine's own.

    Raises:
        ValueError: If another address is to be served without a password.
        OSError: If the port is taken.
    """
    own = is_own(host)
    if not own and not password:
        msg = f"--host {host} lets others reach the page: choose a --password for it."
        raise ValueError(msg)
    import uvicorn  # noqa: PLC0415 - comes with Gradio

    application = Guard(build(session), hosts={*LOOPBACK, host} if own else (), password=password)
    config = uvicorn.Config(application, host=host, port=port, log_level="warning", ws="none", server_header=False)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    socket.listen()  # whoever reads the address may open it at once
    print(f"The page is at http://{host}:{socket.getsockname()[1]}", flush=True)  # noqa: T201
    server.run(sockets=[socket])


def is_own(host: str) -> bool:
    """Tell whether an address is one that only this machine reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
