"""Headless Chromium, driven over its DevTools pipe: what a page shows, logs and asks the network
for.

The protocol (https://chromedevtools.github.io/devtools-protocol/) needs two pipes and JSON, no
library.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WHY_NOT = "no Chromium is installed: apt-get install chromium (scripts/setup does it as root)"
SECONDS = 120.0  # that an answer may take on a busy machine


# WebGL on a CPU, and no other machine than this one.
DRAWN_HERE = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Chromium:
    """A browser with one page. Use in a with statement.

    messages: what the page logged or threw, each behind its level; requests: URLs that it asked
    for, web sockets too, other than data and the page itself. webgl: draw with DRAWN_HERE.
    """

    def __init__(self, folder, dark=False, size=(1366, 900), webgl=False):
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.messages, self.requests = [], []
        self._number, self._events, self._buffer = 0, [], b""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        arguments = [
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
            "--no-first-run",
            *(DRAWN_HERE if webgl else ["--disable-gpu"]),
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # it refuses root with one
        ]
        # the pipes are expected to be descriptors 3 and 4
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with open(Path(folder) / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, PROGRAM, *arguments],
                pass_fds=[theirs_in, theirs_out],
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, page):
        """Load a file, or what an http address gives, and wait until all of it is there."""
        served = str(page).startswith("http")
        url = str(page) if served else Path(page).resolve().as_uri()
        self._page = url
        self.call("Page.navigate", url=url)
        self._until(lambda event: event["method"] == "Page.loadEventFired")

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
        """Move the pointer to a place in the window and press its button there."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def point(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path, whole=False):
        """Write a PNG of what is seen, or of the whole page."""
        shot = self.call(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=whole,
            **({"clip": self._whole()} if whole else {}),
        )
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda event: event.get("id") == self._number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _whole(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def _until(self, wanted):
        """The next message that is wanted; all are looked at."""
        end = time.monotonic() + SECONDS
        while True:
            while b"\0" not in self._buffer:
                left = end - time.monotonic()
                ready = select.select([self._in], [], [], max(left, 0))[0]
                assert ready, f"Chromium did not answer within {SECONDS:.0f} s"
                part = os.read(self._in, 2**20)
                assert part, "Chromium has ended"
                self._buffer += part
            text, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(text)
            self._note(message)
            if wanted({"method": "", **message}):
                return message

    def _note(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            said = " ".join(str(a.get("value", a.get("description"))) for a in parameters["args"])
            self.messages.append(f"{parameters['type']}: {said}")
        elif method == "Runtime.exceptionThrown":
            self.messages.append(f"error: {parameters['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.messages.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("data:", "blob:")) and url.partition("#")[0] != self._page:
                self.requests.append(url)
        elif method == "Network.webSocketCreated":
            self.requests.append(parameters["url"])
