"""Opens the status page in Chromium as its readers do, and has axe-core judge each page.

usage: judge.py BASE AXE SHOTS, spoken to on stdin: it asks for what is to happen in the world behind the page, one
word a line, and is answered with a line. It ends with 0 when everything is as it should be.
"""
import base64
import json
import pathlib
import shutil
import sys
import tempfile
import time
import urllib.parse

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-default-apps --disable-dev-shm-usage --window-size=1400,1000""".split()
PATIENCE = 90
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
HOST = urllib.parse.urlsplit(sys.argv[1]).netloc


class Reader:
    """A browser, what it asked for, and what it complained about."""

    def __init__(self, base, axe, shots):
        self.base, self.axe, self.shots = base, pathlib.Path(axe).read_text(), pathlib.Path(shots)
        self.profile = tempfile.mkdtemp(prefix="browser-")
        options = Options()
        options.binary_location = shutil.which("chromium")
        for flag in [*FLAGS, f"--user-data-dir={self.profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_page_load_timeout(PATIENCE)
        self.asked = set()

    def close(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, path):
        self.driver.get(urllib.parse.urljoin(self.base, path))

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def until(self, what, good):
        """Waits for something to come true by itself; a page that was loaded again is not the one that was opened."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            value = good()
            if value:
                return value
            time.sleep(0.25)
        self.driver.save_screenshot(str(self.shots / "FAILED.png"))
        raise AssertionError(f"never: {what}\n{self.text('main')[:4000]}")

    def mark(self):
        self.run("window.opened = 'once'")

    def same(self):
        assert self.run("return window.opened") == "once", "the page was loaded again"

    def look(self, scheme, metrics=None):
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        if metrics:
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def keep(self, name):
        """The whole page as a picture."""
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        (self.shots / f"{name}.png").write_bytes(base64.b64decode(picture))

    def judge(self, name):
        self.run(self.axe)
        verdict = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run(document).then(done, (e) => done({error: String(e)}))"
        )
        assert "error" not in verdict, verdict
        found = [
            f"{one['id']} ({one['impact']}): {one['help']}: " + "; ".join(node["html"][:200] for node in one["nodes"][:3])
            for one in verdict["violations"]
        ]
        assert len(verdict["passes"]) >= 10, f"{name}: axe looked at nothing"
        return [f"{name}: {one}" for one in found]

    def clean(self):
        """Nothing was said on the console, and nothing asked of another host."""
        said = self.driver.get_log("browser")
        assert not said, said
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = urllib.parse.urlsplit(message["params"]["request"]["url"])
                if url.scheme not in ("data", "about", "chrome", "devtools"):
                    self.asked.add(url.netloc)
        assert self.asked == {HOST}, self.asked


def ask(what):
    print(what, flush=True)
    answer = sys.stdin.readline().strip()
    assert answer, "nobody answers"
    return answer


def rows(reader):
    return reader.run("return [...document.querySelectorAll('.accounts tbody th')].map((cell) => cell.textContent)")


def finds_the_failing_account_first(reader):
    reader.open("/")
    reader.mark()
    reader.until("the failing account is the first", lambda: rows(reader)[:1] == ["initech/444444444444"])
    reader.until("the others are here", lambda: len(rows(reader)) == 3)
    reader.same()
    reader.until("one sentence says it", lambda: reader.text("h1").strip().startswith("✖ 1 of 3 accounts not current"))
    need = reader.until("and what needs the reader", lambda: reader.text(".needs li"))
    for told in ["initech/444444444444", "since 20", "AccessDenied", "trailsync check initech", "TrailsyncFailing"]:
        assert told in need, f"{told} in {need}"
    reader.until("it names the hop", lambda: "list" in reader.text(".accounts tbody tr small"))


def sees_lag_and_objects_move(reader):
    cell = "[data-key='globex/333333333333'] [data-f={}]"
    reader.until("a lag", lambda: reader.text(cell.format("lag")) not in ("", "–"))
    seen = set()
    reader.until("the lag moves", lambda: seen.add(reader.text(cell.format("lag"))) or len(seen) >= 3)
    before = int(reader.text(cell.format("objects")))
    ask("deliver")
    reader.until("an object more", lambda: int(reader.text(cell.format("objects"))) == before + 1)
    assert "(live)" in reader.text("header")
    renewal = "[data-session=acme] [data-f=renewal]"
    reader.until("a session that began after the page", lambda: reader.text(renewal).startswith("in "))
    left = "return document.querySelector('[data-session=acme] meter').value"
    first = reader.run(left)
    reader.until("the countdown runs", lambda: 0 < reader.run(left) < first)
    reader.same()


def opens_a_calendar_and_its_hours(reader):
    """From the first page by links alone, as a reader goes."""
    follow(reader, "acme/222222222222")
    reader.until("conditions", lambda: reader.run("return document.querySelectorAll('.health tbody tr').length") == 7)
    follow(reader, "CloudTrail eu-west-1")
    days = reader.run("return [...document.querySelectorAll('.months a')].map((day) => day.title)")
    assert len(days) == 90 and len(set(days)) == 90, days
    stream = reader.driver.current_url
    reader.until("a day is proven", lambda: reader.run("return document.querySelectorAll('.months .pr').length") > 0)
    reader.run("document.querySelector('.months .pr').closest('a').click()")
    reader.until("its hours", lambda: reader.run("return document.querySelectorAll('.hours tbody tr').length") == 24)
    assert reader.run("return document.querySelectorAll('.hours .pr').length") > 12, reader.text(".hours")
    return urllib.parse.urlsplit(stream).path, urllib.parse.urlsplit(reader.driver.current_url).path


def follow(reader, text):
    reader.until(f"a link {text}", lambda: reader.run(
        "const link = [...document.querySelectorAll('main a')].find((a) => a.textContent === arguments[0]);"
        "if (link) link.click(); return Boolean(link)", text))
    reader.until(f"the page of {text}", lambda: text in reader.text("h1"))


def sees_an_alteration_turn_its_day_red(reader, stream):
    reader.open(stream)
    reader.mark()
    day = ask("alter")
    cell = f".months a[title^='{day}']"
    reader.until("the day is altered", lambda: reader.text(f"{cell} .hidden").startswith(f"{day}: altered"))
    colour = reader.run("return getComputedStyle(document.querySelector(arguments[0])).backgroundColor", f"{cell} .bar")
    red, green, blue = (int(part) for part in colour[4:-1].split(","))
    assert red > 120 and red > 2 * green and red > 2 * blue, colour
    reader.same()
    reader.keep("stream-altered")
    reader.run("document.querySelector(arguments[0]).click()", cell)
    reader.until("its hour and its key", lambda: "altered" in reader.text(".hours") and ".json.gz" in reader.text(".faults"))
    reader.open("/alarms")
    story = reader.until("its story", lambda: reader.text(".needs li"))
    for told in ["acme: altered", "signed digest", "trailsync verify", "TrailsyncAltered"]:
        assert told in story, f"{told} in {story}"
    return urllib.parse.urlsplit(stream).path + f"/{day}"


def works_with_the_keyboard(reader, account):
    reader.open(account)
    body = reader.driver.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    assert reader.run("return document.activeElement.textContent") == "Skip to content"
    stops = reader.run("return [...document.querySelectorAll('.calendar')].map("
                       "(one) => [...one.querySelectorAll('a')].filter((day) => day.tabIndex === 0).length)")
    assert stops[1:] and all(count == 1 for count in stops[1:]), stops
    last = reader.run("const days = document.querySelectorAll('.stream .calendar')[0].querySelectorAll('a');"
                      "days[days.length - 1].focus(); return document.activeElement.title")
    reader.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    before = reader.run("return document.activeElement.title")
    assert before[:10] < last[:10], (before, last)


def works_without_javascript(reader, pages):
    reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        for name, path in pages.items():
            reader.open(path)
            main = reader.driver.find_element("css selector", "main").text
            assert len(main) > 40, f"{name}: {main}"
        reader.open("/")
        reader.driver.find_element("link text", "acme/222222222222").click()
        reader.driver.find_element("link text", "CloudTrail eu-west-1").click()
        reader.driver.find_element("css selector", ".months a").click()
        assert reader.driver.find_elements("css selector", ".hours tbody tr"), "no hours"
    finally:
        reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def looks_right_everywhere(reader, pages):
    """Each page in light, in dark and on a phone: accessible, within its width, and kept as a picture."""
    found = []
    for look, scheme, metrics in [("light", "light", None), ("dark", "dark", None), ("phone", "light", PHONE)]:
        reader.look(scheme, metrics)
        for name, path in pages.items():
            reader.open(path)
            reader.until("it is live", lambda: "(live)" in reader.text("header"))
            found += reader.judge(f"{name}, {look}")
            width, room = reader.run("return [document.documentElement.scrollWidth, innerWidth]")
            if width > room:
                found.append(f"{name}, {look}: {width} wide, of {room}")
            reader.keep(f"{name}-{look}")
    reader.look("light")
    assert not found, "\n".join(found)


def main():
    reader = Reader(*sys.argv[1:4])
    try:
        finds_the_failing_account_first(reader)
        sees_lag_and_objects_move(reader)
        stream, day = opens_a_calendar_and_its_hours(reader)
        bad_day = sees_an_alteration_turn_its_day_red(reader, stream)
        pages = {
            "overview": "/", "none": "/?q=nobody", "account": "/account/acme/222222222222", "stream": stream, "day": day,
            "bad-day": bad_day, "failing": "/account/initech/444444444444", "alarms": "/alarms", "quarantine": "/quarantine",
        }
        works_with_the_keyboard(reader, pages["account"])
        reader.clean()
        looks_right_everywhere(reader, pages)
        works_without_javascript(reader, pages)
        reader.clean()
    finally:
        reader.close()
    print("well", flush=True)


if __name__ == "__main__":
    main()
