"""A headless Chromium, driven by chromedriver over its WebDriver protocol (W3C, plain HTTP and JSON). Nothing but the
standard library. Invariant: the browser sends nothing that it was not told to, and ends with its block.
"""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE_S = 30
# W3C WebDriver, 17.4.2: what the keys are called.
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Shift": "\ue008", "Space": " "}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --no-proxy-server --force-color-profile=srgb --hide-scrollbars"
)


class Browser:
    def __init__(self, width=1280, height=800):
        self.size = (width, height)

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="page-")
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0", "--allowed-ips=127.0.0.1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.session = None
        try:
            for line in self.driver.stdout:
                if match := re.search(r"started successfully on port (\d+)", line):
                    break
            self.base = f"http://127.0.0.1:{match[1]}"
            args = [*SWITCHES.split(), f"--user-data-dir={self.folder}", "--window-size=%d,%d" % self.size]
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": args, "binary": shutil.which("chromium")},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                "unhandledPromptBehavior": "ignore",
            }
            made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{made['sessionId']}"
            # The first of what `view` says otherwise.
            self.view(*self.size)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.session:
            self.call("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait(PATIENCE_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, headers={"Content-Type": "application/json"})
        request.data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=4 * PATIENCE_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:600]}") from None

    def post(self, path, **body):
        return self.call("POST", self.session + path, body)

    def cdp(self, command, **parameters):
        return self.post("/goog/cdp/execute", cmd=command, params=parameters)

    def open(self, url):
        self.post("/url", url=url)

    def view(self, width, height, dark=False, calm=False):
        """The size of the window, and what the person prefers."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def run(self, script, *args):
        """Runs the body of a function in the page; `arguments` are the arguments."""
        return self.post("/execute/sync", script=script, args=list(args))

    def find(self, css):
        return self.post("/element", using="css selector", value=css)[ELEMENT]

    def click(self, css):
        self.post(f"/element/{self.find(css)}/click")

    def type(self, css, text):
        self.post(f"/element/{self.find(css)}/value", text=text)

    def press(self, *keys):
        """Presses keys together, and lets them go, wherever the focus is."""
        keys = [KEYS.get(key, key) for key in keys]
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def picture(self, path, whole=False):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.cdp("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def log(self, kind):
        """The messages since the last look: `browser` is the console, `performance` the network."""
        return self.post("/se/log", type=kind)

    def until(self, script, *args, patience_s=PATIENCE_S):
        """Waits until the page says something true, and returns that."""
        end = time.monotonic() + patience_s
        while not (value := self.run(script, *args)):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {script} {args}")
            time.sleep(0.05)
        return value
