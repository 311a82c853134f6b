#!/usr/bin/env python3
"""Opens report.html of output folders in headless Chromium without a network.

    check.py CHROMIUM SCREENSHOTS OUT...

Holds each page to: no console message, no request, a point for every epoch in
every chart that shows on the screen, no sideways scrolling on a telephone, and
numbers equal to report.json and, where it is there, metrics.jsonl. Screenshots
of each go to a folder. Speaks the DevTools protocol over Chromium's own pipe.
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, chromium):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        into, self.write = os.pipe()
        self.read, out = os.pipe()
        alone = ["unshare", "-n"] if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0 else []
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{into} 4>&{out}', "chromium", *alone, chromium, "--headless=new",
             "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--no-first-run", "--disable-background-networking", f"--user-data-dir={self.profile.name}", "about:blank"],
            pass_fds=(into, out), stderr=subprocess.DEVNULL)
        os.close(into)
        os.close(out)
        self.buffer, self.last, self.events, self.session = b"", 0, [], None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def receive(self):
        while b"\0" not in self.buffer:
            part = os.read(self.read, 1 << 16)
            if not part:
                sys.exit("chromium ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.last += 1
        message = dict(id=self.last, method=method, params=params)
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, path, width, dark):
        """Loads a file anew and returns the events of its loading."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[dict(name="prefers-color-scheme", value="dark" if dark else "light")])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self.receive())
        self.eval("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        return list(self.events)

    def eval(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in r:
            sys.exit(f"{expression}: {r['exceptionDetails']}")
        return r["result"].get("value")

    def screenshot(self, path):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(30)
        self.profile.cleanup()


# What a reader sees of the page.
SEEN = """(() => {
  const box = e => { const b = e.getBoundingClientRect(); return [b.width, b.height] }
  return {
    data: document.getElementById("data").textContent,
    width: document.documentElement.scrollWidth,
    text: document.body.innerText,
    scripts: [...document.scripts].map(s => s.type),
    foreign: document.querySelectorAll("img, iframe, object, embed, [onerror], [onload], [onclick]").length,
    charts: [...document.querySelectorAll("figure.chart")].map(c => {
      const line = c.querySelector("polyline")
      return {
        name: c.dataset.name, points: line.points.numberOfItems, dots: c.querySelectorAll(".dot").length,
        size: box(c.querySelector("svg")), drawn: box(line), ticks: c.querySelectorAll(".y span").length,
        inside: [...line.points].every(p => p.x >= 0 && p.x <= 1000 && p.y >= 0 && p.y <= 1000),
        heights: [...line.points].map(p => p.y),
      }
    }),
    bars: [...document.querySelectorAll(".metrics .bar rect")].map(b => b.getBoundingClientRect().width / b.ownerSVGElement.getBoundingClientRect().width),
  }
})()"""


def check(ok, what):
    if not ok:
        sys.exit(f"FAIL {what}")


def follows(values, heights):
    """Whether the points are as high as the values are large."""
    lo, hi = min(values), max(values)
    top, bottom = min(heights), max(heights)
    return all(
        abs((v - lo) * (bottom - top) - (bottom - h) * (hi - lo)) <= 0.3 * (hi - lo)
        for v, h in zip(values, heights))


def check_numbers(out, data):
    """The page's numbers are those of the other files."""
    report = json.loads((out / "report.json").read_text())
    train, times = report["train"], data["times"]
    check(len(data["epochs"]) == train["epochs"], "epochs of report.json")
    check(data["epochs"][0]["loss"] == train["first_loss"] and data["epochs"][-1]["loss"] == train["final_loss"], "losses of report.json")
    check(data["epochs"][0]["epoch_seconds"] == train["first_epoch_seconds"] == times["first_epoch_seconds"], "first epoch of report.json")
    check(times["epoch_seconds"] == train["median_epoch_seconds"], "median epoch of report.json")
    for name, key in (("fill_seconds", "seconds"), ("rows", "rows"), ("objects", "objects"), ("encoded", "encoded"),
                      ("encoded_per_second", "encoded_per_second")):
        check(times[name] == report["fill"][key], f"{name} of report.json")
    check(data["cache"]["bytes"] == report["cache"]["bytes"], "cache of report.json")
    check({e["name"]: e["fingerprint"] for e in data["encoders"]} == report["cache"]["fingerprints"], "fingerprints of report.json")
    for key in ("split", "objects", "queries", "baseline", "tuned", "baseline_deviation", "tuned_deviation"):
        check(data.get("eval", {}).get(key) == report.get("eval", {}).get(key), f"eval.{key} of report.json")
    lines = out / "metrics.jsonl"
    if not lines.exists():
        return
    epochs = [e for e in map(json.loads, lines.read_text().splitlines()) if e["event"] == "epoch"]
    check(len(epochs) == len(data["epochs"]), "epochs of metrics.jsonl")
    for want, got in zip(epochs, data["epochs"]):
        for key in ("epoch", "loss", "lr", "epoch_seconds", "validation", "best"):
            check(want.get(key) == got.get(key), f"{key} of epoch {got['epoch']} of metrics.jsonl")


def check_page(browser, out, width, dark):
    page = (out / "report.html").resolve()
    events = browser.open(page, width, dark)
    for e in events:
        check(e.get("method") not in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"), f"console: {e}")
        if e.get("method") == "Network.requestWillBeSent":
            url = e["params"]["request"]["url"]
            check(url == page.as_uri() or url.startswith("data:"), f"a request for {url}")
    seen = browser.eval(SEEN)
    data = json.loads(seen["data"])
    epochs = len(data["epochs"])
    check_numbers(out, data)
    check(seen["width"] <= width, f"{seen['width']} pixels wide on a screen of {width}")
    check(seen["scripts"] == ["application/json"] and seen["foreign"] == 0, "what the page is made of")
    names = [c["name"] for c in seen["charts"]]
    metrics = sorted({m for e in data["epochs"] for m in e.get("validation", {})})
    rates = ["learning rate"] if any(e["lr"] for e in data["epochs"]) else []
    check(names == ["loss", *metrics, *rates, "seconds an epoch"], f"charts {names}")
    key = {"loss": "loss", "learning rate": "lr", "seconds an epoch": "epoch_seconds"}
    for c in seen["charts"]:
        values = [e[key[c["name"]]] if c["name"] in key else e.get("validation", {}).get(c["name"]) for e in data["epochs"]]
        values = [v for v in values if v is not None]
        check(c["points"] == len(values) and (c["name"] in metrics or len(values) == epochs), f"{c['points']} points of {c['name']}, {epochs} epochs")
        check(c["dots"] == (len(values) if len(values) <= 300 else 0), f"{c['dots']} dots of {c['name']}")
        check(c["inside"] and c["ticks"] >= 2 and min(c["size"]) > 150, f"chart {c}")
        check(len(values) < 2 or c["drawn"][0] > 0.99 * c["size"][0], f"the curve of {c['name']} is {c['drawn']} in {c['size']}")
        check(follows(values, c["heights"]), f"the curve of {c['name']} is another")
    if "eval" in data:
        ordered = sorted(data["eval"]["baseline"])
        want = [min(max(data["eval"][side][m], 0), 1) for m in ordered for side in ("baseline", "tuned")]
        check(len(want) == len(seen["bars"]) and all(abs(a - b) < 0.005 for a, b in zip(want, seen["bars"])), f"bars {seen['bars']}, want {want}")
        for m in ordered:
            check(f"{data['eval']['tuned'][m]:.4f}" in seen["text"] and m in seen["text"], f"{m} in the text")
        check(len(data.get("examples", [])) > 0, "examples")
        for e in data["examples"]:
            check(" ".join(e["text"].split()) in " ".join(seen["text"].split()), f"example {e['text']!r} in the text")
            check(len(e["before"]) == len(e["after"]) > 0, f"neighbors of {e['text']!r}")


def main(chromium, shots, outs):
    shots = pathlib.Path(shots)
    shots.mkdir(parents=True, exist_ok=True)
    browser = Browser(chromium)
    for out in map(pathlib.Path, outs):
        for width in (1280, 390):
            for dark in (False, True):
                check_page(browser, out, width, dark)
                browser.screenshot(shots / f"{out.name}-{width}-{'dark' if dark else 'light'}.png")
        print(f"ok {out.name}")
    browser.close()


main(sys.argv[1], sys.argv[2], sys.argv[3:])
