"""A headless Chromium by the WebDriver protocol of chromedriver, which is JSON over HTTP: no package of Python."""
import base64
import json
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def found():
    """The browser and its driver, or None where one of them is missing."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def axe_source():
    """The text of axe.min.js, or None where it cannot be had."""
    folder = ROOT / "build" / "axe"
    if not list(folder.glob("*.whl")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
                        "--require-hashes", "--dest", folder, "-r", ROOT / "tests" / "browser" / "requirements.txt"],
                       stderr=subprocess.DEVNULL, check=False)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            name, = [one for one in archive.namelist() if one.endswith("/axe.min.js")]
            return archive.read(name).decode()
    return None


def axe_run(source):
    """An expression whose value has a line for each fault that axe finds in the page."""
    return source + "; axe.run({resultTypes: ['violations']}).then(found => found.violations.map(" \
                    "one => one.id + ': ' + one.nodes.map(node => node.html.slice(0, 120)).join(' ')))"


class Browser:
    def __init__(self):
        browser, driver = found()
        self.driver = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self.driver.stdout:
            if port := re.search(r"started successfully on port (\d+)", line):
                break
        self.address = f"http://127.0.0.1:{port[1]}"
        options = {"binary": browser, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                                               "--disable-dev-shm-usage", "--disable-extensions"]}
        session = self.send("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
        self.address += f"/session/{session['sessionId']}"

    def close(self):
        try:
            self.send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.driver.stdout.close()

    def send(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.address + path, data=data, method=method,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def command(self, name, **parameters):
        """A command of the DevTools protocol."""
        return self.send("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def evaluate(self, expression):
        """The value of JavaScript, awaited; the page's own policy does not bind it."""
        result = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def looks(self, width, scheme):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        self.command("Emulation.setEmulatedMedia", media="screen",
                     features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path):
        """Opens a file, and returns what the console said and what was asked of the network, but for what the page's
        policy blocked."""
        for kind in ("browser", "performance"):
            self.send("POST", "/se/log", {"type": kind})
        self.send("POST", "/url", {"url": path.as_uri()})
        console = [entry["message"] for entry in self.send("POST", "/se/log", {"type": "browser"})]
        events = [json.loads(entry["message"])["message"]
                  for entry in self.send("POST", "/se/log", {"type": "performance"})]
        blocked = {event["params"]["requestId"] for event in events
                   if event["method"] == "Network.loadingFailed" and event["params"].get("blockedReason") == "csp"}
        asked = [event["params"]["request"]["url"] for event in events
                 if event["method"] == "Network.requestWillBeSent" and event["params"]["requestId"] not in blocked]
        return console, [url for url in asked if url != path.as_uri()]

    def screenshot(self, path, whole=True):
        """The whole page, or what of it is in the window."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path):
        path.write_bytes(base64.b64decode(self.send("POST", "/print", {"background": False})))

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                         windowsVirtualKeyCode={"Tab": 9, "ArrowRight": 39}[key])
