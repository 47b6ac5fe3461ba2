"""Headless Chromium with WebGL on a CPU, driven over the DevTools protocol: what a page draws, logs
and asks the network for.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
WHY_NOT = "no Chromium is installed (Debian: apt-get install chromium)"
SECONDS = 120.0  # that an answer may take on a busy machine
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--hide-scrollbars",
)


class Browser:
    """One page, in a with statement.

    It finds no machine but this one. messages: (level, text) that the page logged or threw.
    requests: every URL that it asked the network for, web sockets too.
    """

    def __init__(self, folder, size=(1280, 800)):
        from websockets.sync.client import connect

        self.messages, self.requests, self._number = [], [], 0
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    *FLAGS,
                    f"--user-data-dir={folder}",
                    f"--window-size={size[0]},{size[1]}",
                ],
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            )
        try:
            port, path = _address(folder / "DevToolsActivePort", self._process)
            self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
            self._session = None
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
                self.call(f"{domain}.enable")
            self.call(
                "Emulation.setDeviceMetricsOverride",
                width=size[0],
                height=size[1],
                deviceScaleFactor=1,
                mobile=False,
            )
        except BaseException:
            self._process.kill()
            raise

    def open(self, url):
        self.call("Page.navigate", url=url)

    def run(self, expression):
        """Value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression, seconds=SECONDS):
        """Value of a JavaScript expression, once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {expression}"
            time.sleep(0.3)
        return value

    def give_file(self, selector, path):
        """As if a user chose a file for <input type=file>."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def click(self, x, y):
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, **options):
        """Bytes of a PNG of what is seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=SECONDS))
            self._note(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _note(self, message):
        method, about = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            said = " ".join(str(a.get("value", a.get("description"))) for a in about["args"])
            self.messages.append((about["type"], said))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(("error", str(about["exceptionDetails"])))
        elif method == "Log.entryAdded":
            self.messages.append((about["entry"]["level"], about["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            if not about["request"]["url"].startswith(("data:", "blob:")):
                self.requests.append(about["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(about["url"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)


def _address(file, process):
    """(port, path) of the DevTools, once Chromium has written them down."""
    end = time.monotonic() + SECONDS
    while not file.exists() or file.read_text().count("\n") < 1:
        assert process.poll() is None and time.monotonic() < end, "Chromium did not start"
        time.sleep(0.1)
    port, path = file.read_text().split("\n")[:2]
    return port, path
