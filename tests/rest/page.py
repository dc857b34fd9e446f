"""The status page in a headless Chromium, against the real binary:

    python3 tests/rest/page.py target/release/dflockd

It has to find `chromium` and `chromedriver`. What a person sees and does is checked here; what its source may contain is
checked by the test beside it, in src/wire/http/stored.rs. Invariant: each claim begins with a server of its own or a
page that it has just opened.
"""

import json
import signal
import sys
import tempfile
import time

from browser import Browser
from server import Etcd, Server, prove

ROWS = "return [...document.querySelectorAll('#body > tr:not(.more)')].map(tr => tr.querySelector('.open .mono').textContent)"
# The row of a lock, by what it is shown as.
ROW = "const row = [...document.querySelectorAll('#body > tr:not(.more)')].find(tr => tr.querySelector('.open .mono').textContent === arguments[0]); "
CELLS = ROW + "return row && [...row.cells].map(cell => cell.innerText.trim())"
OPEN = ROW + "row.querySelector('.open').click()"
BREAK = ROW + "const button = row.querySelector('.break'); button.focus(); button.click()"
PLACE = ROW + "return row.querySelector('.break').getBoundingClientRect().top"
FOCUS = "const at = document.activeElement; return at === document.body ? '' : at.id || at.ariaLabel || at.innerText"
STATE = "return document.getElementById('state').textContent"
SCRIPT = "<script>alert(1)</script>"


class Desk:
    """A server, a browser, and the page of the one in the other."""

    def __init__(self, browser, server, url=None):
        self.browser, self.server = browser, server
        browser.open(url or server.url + "/")

    def shown(self, *names):
        """Waits until exactly these locks are shown."""
        wanted = json.dumps(sorted(names))
        self.browser.until(f"return JSON.stringify((() => {{ {ROWS} }})().sort()) === JSON.stringify({wanted})")

    def says(self, id, text):
        return self.browser.until("const node = document.getElementById(arguments[0]); return !node.closest('[hidden]') && node.textContent.includes(arguments[1]) && node.textContent", id, text)

    def dialog(self):
        return self.browser.run("return document.getElementById('ask').open")


def shows_locks_of_the_line_port(browser, server):
    holder = server.line("l", "leader", "10 60", name="worker-1")
    assert holder.hear().startswith(b"ok ")
    waiters = []
    for at in range(3):
        waiters.append(server.line("l", "leader", "60", name=f"worker-{at + 2}"))
        wait_for(lambda: json.loads(server.ask("GET", "/locks/leader/status")[2])["waiters"] == at + 1)
    desk = Desk(browser, server)
    desk.shown("leader")
    name, client, held, left, waiting, longest, act = browser.run(CELLS, "leader")
    assert (name, client, waiting, act) == ("leader", f"worker-1 {holder.address}", "3", "Break"), (name, client, waiting, act)
    assert seconds(left) <= 60 and seconds(held) < 30 and seconds(longest) < 30, (held, left, longest)
    assert longest.endswith("s") and browser.run("return document.getElementById('longest').textContent").endswith("s")
    browser.run(OPEN, "leader")
    lines = browser.until("const lines = [...document.querySelectorAll('.more ol li')]; return lines.length === 3 && lines.map(li => [...li.children].map(node => node.textContent))")
    assert [line[:3] for line in lines] == [[f"{at + 1}.", f"worker-{at + 2}", waiters[at].address] for at in range(3)], lines
    ages = [seconds(line[3]) for line in lines]
    assert ages == sorted(ages, reverse=True), ages
    # The next in the queue has it, and the open row says so by itself.
    holder.close()
    browser.until("return document.querySelectorAll('.more ol li').length === 2")
    assert browser.run(CELLS, "leader")[1] == f"worker-2 {waiters[0].address}"
    for waiter in waiters:
        waiter.close()
    desk.says("empty", "No lock is held")


def counts_seconds_between_two_polls(browser, server):
    holder = server.line("l", "leader", "10 60")
    desk = Desk(browser, server)
    desk.shown("leader")
    # A poll every two seconds alone would leave out every other number.
    held, left, end = set(), set(), time.monotonic() + 20
    while not (three_in_a_row(held) and three_in_a_row(left)):
        assert time.monotonic() < end, (held, left)
        cells = browser.run(CELLS, "leader")
        held.add(seconds(cells[2]))
        left.add(seconds(cells[3]))
        time.sleep(0.05)
    # And in a pause it stands still.
    browser.click("#pause")
    assert browser.run(STATE) == "Paused" and browser.run(FOCUS) == "pause"
    desk.says("pause", "Resume")
    time.sleep(0.2)
    before = browser.run(CELLS, "leader")
    time.sleep(1.5)
    assert browser.run(CELLS, "leader") == before
    browser.click("#pause")
    desk.says("state", "Live")
    desk.says("pause", "Pause")
    holder.close()


def breaks_a_lock_after_a_question(browser, server):
    holder = server.line("l", "leader", "10 60", name="worker-1")
    assert holder.hear().startswith(b"ok ")
    waiter = server.line("l", "leader", "60", name="worker-2")
    desk = Desk(browser, server)
    desk.shown("leader")
    wait_for(lambda: browser.run(CELLS, "leader")[4] == "1")
    browser.run(BREAK, "leader")
    assert desk.dialog() and browser.run(FOCUS) == "no"
    question = browser.run("return document.getElementById('ask').innerText")
    assert "leader" in question and "worker-1" in question and holder.address in question, question
    browser.click("#no")
    assert not desk.dialog() and browser.run(FOCUS) == "Break leader"
    assert json.loads(server.ask("GET", "/locks/leader/status")[2])["holders"][0]["clientId"] == "worker-1"
    browser.run(BREAK, "leader")
    browser.click("#yes")
    assert waiter.hear().startswith(b"ok ")
    desk.says("news", "leader was broken. Its holder was worker-1; nobody waits.")
    browser.until(CELLS.replace("return row &&", "return row && row.cells[1].innerText.startsWith('worker-2') &&"), "leader")
    assert not desk.dialog() and browser.run(FOCUS) == "Break leader"
    # Only what was shown is broken: the newcomer keeps what it got while the question was open.
    browser.run(BREAK, "leader")
    waiter.close()
    newcomer = server.line("l", "leader", "10 60", name="worker-3")
    assert newcomer.hear().startswith(b"ok ")
    browser.click("#yes")
    desk.says("failed", "Nothing was broken")
    assert json.loads(server.ask("GET", "/locks/leader/status")[2])["holders"][0]["clientId"] == "worker-3"
    browser.press("Escape")
    assert not desk.dialog()
    newcomer.close()
    holder.close()


def breaks_one_holder_of_a_semaphore_or_all(browser, server):
    holders = [server.line("sl", "pool", "10 3 60", name=f"worker-{at}") for at in range(3)]
    for holder in holders:
        assert holder.hear().startswith(b"ok ")
    lock = server.line("l", "pool", "10 60", name="other")
    assert lock.hear().startswith(b"ok ")
    desk = Desk(browser, server)
    desk.shown("pool", "pool")
    pool = "const row = [...document.querySelectorAll('#body > tr')].find(tr => tr.innerText.includes('semaphore, ' + arguments[0])); if (!row) return; "
    browser.until(pool + "row.querySelector('.open').click(); return true", "3 of 3")
    browser.until("const end = document.querySelector('[aria-label=\"Break the hold of worker-1\"]'); if (end) end.click(); return !!end")
    browser.click("#yes")
    desk.says("news", "Its holder was worker-1")
    browser.until(pool + "row.querySelector('.break').click(); return true", "2 of 3")
    assert "all 2 holds" in browser.run("return document.getElementById('title').textContent")
    browser.click("#yes")
    desk.says("news", "worker-")
    desk.shown("pool")
    assert browser.run(CELLS, "pool")[1] == f"other {lock.address}"
    for line in [lock, *holders]:
        line.close()


def shows_any_name_as_text(browser, server):
    # Over the line port, and over that of distlockd, where a name may also have blanks and be long.
    names = {
        SCRIPT.encode(): SCRIPT,
        b"<img/src=x/onerror=alert(1)>": "<img/src=x/onerror=alert(1)>",
        b"tab\x01bell\x07\x1b[31m": r"tab\u0001bell\u0007\u001b[31m",
        "\u202egnp.exe".encode(): r"\u202egnp.exe",
        b"bytes-\xff\xfe": "bytes-\ufffd\ufffd",
        "clé/日本:%2F?#&".encode(): "clé/日本:%2F?#&",
        b"..": "..",
        b"x" * 256: "x" * 256,
    }
    lines = [server.line("l", name, "10 60", name="<b>client</b>") for name in names]
    assert all(line.hear().startswith(b"ok ") for line in lines)
    blanks, long = b" blanks ", b"y" * 9_000
    for name, text in [(blanks, "\u2423blanks\u2423"), (long, long.decode())]:
        server.distlockd(1, name)
        names[name] = text
    desk = Desk(browser, server)
    desk.shown(*names.values())
    for text in names.values():
        browser.run(OPEN, text)
    browser.until("return document.querySelectorAll('.more').length === 10 && !document.body.innerText.includes('Asking…')")
    assert browser.run("return document.querySelectorAll('script, b, img:not(#mark)').length") == 1
    assert browser.run(CELLS, SCRIPT)[1] == f"<b>client</b> {lines[0].address}"
    fails("no such alert", lambda: browser.call("GET", browser.session + "/alert/text"))
    # What a URL can say can be broken, whatever it is; of the rest the page says that it cannot.
    for text in [SCRIPT, "clé/日本:%2F?#&", r"\u202egnp.exe"]:
        browser.run(BREAK, text)
        browser.click("#yes")
        desk.says("news", f"{text} was broken")
    for text in ["bytes-\ufffd\ufffd", "..", r"tab\u0001bell\u0007\u001b[31m", names[blanks], names[long]]:
        browser.run(BREAK, text)
        assert browser.run("return document.getElementById('yes').hidden")
        assert "dflock(1)" in browser.run("return document.getElementById('effect').textContent")
        browser.press("Escape")
    for name in [blanks, long]:
        server.distlockd(2, name)
    for line in lines:
        line.close()


def finds_names_and_turns_pages(browser, server):
    line = server.line()
    for at in range(230):
        assert line.ask("l", f"item:{at:03}" if at < 220 else f"user:{at}", "10 600").startswith(b"ok ")
    desk = Desk(browser, server)
    desk.says("count", "1 to 100 of 230")
    browser.click("#next")
    desk.says("count", "101 to 200 of 230")
    browser.click("#next")
    desk.says("count", "201 to 230 of 230")
    assert browser.run("return document.getElementById('next').disabled")
    browser.click("#back")
    desk.says("count", "101 to 200 of 230")
    browser.type("#prefix", "user:")
    desk.says("count", "10 locks")
    desk.shown(*[f"user:{at}" for at in range(220, 230)])
    browser.run("document.querySelector('[data-by=lockName] button').click()")
    assert browser.run(ROWS) == [f"user:{at}" for at in range(220, 230)]
    browser.run("document.querySelector('[data-by=lockName] button').click()")
    assert browser.run(ROWS) == [f"user:{at}" for at in reversed(range(220, 230))]
    assert browser.run("return document.querySelector('[aria-sort]').innerText") == "Lock"
    browser.type("#prefix", "<x")
    desk.says("none", "No lock has a name that begins with user:<x")
    browser.click("#clear")
    desk.says("count", "1 to 100 of 230")
    assert browser.run(FOCUS) == "prefix"
    line.close()


def finds_a_lock_that_is_waited_for_on_any_page(browser, server):
    line = server.line()
    names = [f"item:{at:03}" for at in range(230)]
    for name in names:
        assert line.ask("l", name, "10 600").startswith(b"ok ")
    desk = Desk(browser, server)
    desk.says("count", "1 to 100 of 230, sorted within the page")
    browser.click("#only")
    desk.says("none", "Nobody waits for a lock")
    browser.click("#clear")
    desk.says("count", "1 to 100 of 230")
    far = (set(names) - set(browser.run(ROWS))).pop()
    waiter = server.line("l", far, "60", name="worker-2")
    desk.says("count", "; 1 wait on other pages")
    browser.click("#only")
    desk.shown(far)
    desk.says("count", "1 lock")
    assert browser.run(CELLS, far)[4] == "1" and browser.run(CELLS, far)[5].endswith("s")
    browser.click("#only")
    desk.says("count", "1 to 100 of 230")
    waiter.close()
    line.close()


def keeps_its_header_in_sight(browser, server):
    line = server.line()
    for at in range(60):
        assert line.ask("l", f"item:{at:03}", "10 600").startswith(b"ok ")
    desk = Desk(browser, server)
    desk.says("count", "60 locks")
    # Whatever row is under it, what is seen there is the header.
    for by in range(600, 640, 4):
        browser.run("scrollTo(0, arguments[0])", by)
        seen = browser.run("return [40, 70, 500, 1220].filter(x => !document.elementFromPoint(x, 16).closest('thead'))")
        assert seen == [], (by, seen)
    browser.run("scrollTo(0, 0)")
    tops = browser.run("return ['.open .mono', '.who'].map(css => document.querySelector(css).getBoundingClientRect().top)")
    assert tops[0] == tops[1], tops
    line.close()


def says_when_a_hold_began_and_until_when_it_renews_itself(browser, server):
    assert server.ask("POST", "/locks/leader/acquire", {"clientId": "web-1", "timeout": 60, "autoRenew": True})[0] == 200
    desk = Desk(browser, server)
    desk.shown("leader")
    [hold] = json.loads(server.ask("GET", "/locks/leader/status")[2])["holders"]
    until = f"renewed until {hold['autoRenewUntil'][11:19]}Z"
    assert browser.run(CELLS, "leader")[1].split() == ["web-1", *until.split()]
    browser.run(OPEN, "leader")
    more = browser.until("const more = document.querySelector('.more'); return !more.innerText.includes('Asking') && more.innerText")
    assert f"since {hold['acquiredAt']}" in more and until in more and hold["lockId"] in more, more
    # One hold has one button, and it is there on each screen.
    for width in [1280, 400]:
        browser.view(width, 800)
        seen = browser.run("return [...document.querySelectorAll('#body .break')].map(end => end.checkVisibility() && end.ariaLabel)")
        assert seen == ["Break leader"], (width, seen)
    browser.view(1280, 800)
    assert server.ask("DELETE", "/locks/leader")[0] == 200


def needs_no_mouse(browser, server):
    holder = server.line("l", "leader", "10 60", name="worker-1")
    assert holder.hear().startswith(b"ok ")
    desk = Desk(browser, server)
    desk.shown("leader")
    seen = []
    while (focus := browser.run(FOCUS)) != "leader":
        seen.append(focus)
        assert len(seen) < 20, seen
        browser.press("Tab")
        assert browser.run("const style = getComputedStyle(document.activeElement); return style.outlineStyle !== 'none' && style.outlineWidth !== '0px'"), browser.run(FOCUS)
    assert seen[1:] == ["pause", "prefix", "only", "Lock", "Holder", "Held for", "Lease left", "Waiting", "Longest wait"], seen
    browser.press("Enter")
    browser.until("return document.activeElement.ariaExpanded === 'true' && document.querySelector('.more').innerText.includes('Nobody waits.')")
    browser.press("Tab")
    assert browser.run(FOCUS) == "Break leader"
    browser.press(" ")
    assert desk.dialog() and browser.run(FOCUS) == "no"
    browser.press("Escape")
    assert not desk.dialog() and browser.run(FOCUS) == "Break leader"
    # A poll does not take the focus away.
    polls = browser.run("return performance.getEntriesByType('resource').length")
    browser.until("return performance.getEntriesByType('resource').length > arguments[0] + 8", polls)
    assert browser.run(FOCUS) == "Break leader"
    browser.press("Enter")
    browser.press("Tab")
    assert browser.run(FOCUS) == "yes"
    browser.press("Enter")
    desk.says("news", "leader was broken")
    desk.says("empty", "No lock is held")
    assert browser.run(FOCUS) == "prefix"
    holder.close()


def is_a_table_for_a_screen_reader(browser, server):
    holder = server.line("l", "leader", "10 60", name="worker-1")
    desk = Desk(browser, server)
    for width in [1280, 400]:
        browser.view(width, 800)
        desk.shown("leader")
        nodes = browser.cdp("Accessibility.getFullAXTree")["nodes"]
        has = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        for node in [("table", "Locks, their holders and queues"), ("rowheader", "leader"), ("columnheader", "Waiting"), ("button", "leader"), ("searchbox", "Show locks whose name begins with"), ("button", "Pause")]:
            assert node in has, (width, node, has)
        assert ("button", "") not in has and ("textbox", "") not in has, has
        assert any(role == "cell" and "worker-1" in name for role, name in has), has
    browser.view(1280, 800)
    holder.close()


def can_be_read_on_every_screen(browser, server):
    lines = [server.line("l", name, "10 600", name="c" * 128) for name in ["leader", "n" * 256]]
    lines += [server.line("sl", "pool", "10 2 600"), server.line("l", "leader", "60")]
    desk = Desk(browser, server)
    for dark in [False, True]:
        for width in [320, 400, 700, 800, 1280, 2200]:
            browser.view(width, 900, dark)
            desk.shown("leader", "n" * 256, "pool")
            browser.run("document.querySelectorAll('.open[aria-expanded=false]').forEach(open => open.click())")
            browser.until("return document.querySelectorAll('.more ol li').length === 1")
            assert browser.run("return document.documentElement.scrollWidth") <= width, width
            assert (poor := browser.run(CONTRAST)) == [], (dark, width, poor)
    browser.view(1280, 800)
    for line in lines:
        line.close()


# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.1, 1.4.3).
CONTRAST = """
const parse = color => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return { r, g, b, a } }
const over = (top, under) => ({ r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a), b: top.b * top.a + under.b * (1 - top.a), a: 1 })
const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
const light = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b)
const behind = node => node ? over(parse(getComputedStyle(node).backgroundColor), behind(node.parentElement)) : { r: 255, g: 255, b: 255, a: 1 }
const poor = []
for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
  const node = walk.currentNode.parentElement
  if (!walk.currentNode.textContent.trim() || !node.checkVisibility() || node.closest('script, style, :disabled')) continue
  const back = behind(node), [a, b] = [light(over(parse(getComputedStyle(node).color), back)), light(back)]
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
  if (contrast < 4.5) poor.push([node.textContent, contrast])
}
return poor
"""


def asks_for_a_token_and_keeps_it_in_the_tab(browser, server):
    desk = Desk(browser, server)
    desk.says("state", "Token needed")
    assert browser.run(FOCUS) == "token" and browser.run("return document.getElementById('all').hidden")
    browser.type("#token", "wrong")
    browser.press("Enter")
    desk.says("refused", "did not accept")
    browser.type("#token", "s3crét")
    browser.click("#show")
    desk.says("state", "Live")
    desk.says("curl", "Authorization: Bearer TOKEN")
    browser.open(server.url + "/")
    desk.says("state", "Live")
    holder = server.line("auth", "_", "s3crét", "l", "leader", "10 60")
    assert holder.hear() == b"ok" and holder.hear().startswith(b"ok ")
    desk.shown("leader")
    browser.run(BREAK, "leader")
    browser.click("#yes")
    desk.says("failed", "administrator")
    assert browser.run(FOCUS) == "admin"
    browser.type("#admin", "wrong")
    browser.press("Enter")
    browser.until("return document.getElementById('failed').textContent.startsWith('401')")
    browser.run("document.getElementById('admin').value = ''")
    browser.type("#admin", "adm1n")
    browser.press("Enter")
    desk.says("news", "leader was broken")
    assert "adm1n" not in browser.run("return JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + document.cookie")
    browser.click("#forget")
    desk.says("state", "Token needed")
    assert browser.run("return sessionStorage.token") == ""
    holder.close()


def says_what_the_server_is_up_to(browser, binary):
    with Server(binary) as server:
        holder = server.line("l", "leader", "10 600")
        desk = Desk(browser, server)
        desk.says("state", "Live")
        desk.says("facts", "restarts forget locks")
        desk.says("deadlocks", "0")
        # Nothing was granted since the page is open, so there is no mean.
        desk.says("waitmost", "no grant in")
        assert browser.run("return document.getElementById('wait').textContent") == "–"
        # The graphs follow what happens: of a few grants that waited none is lost.
        other = server.line()
        end = time.monotonic() + 20
        while not browser.run("return document.querySelector('#rate + svg path').getAttribute('d')").startswith("M"):
            assert time.monotonic() < end
            token = other.ask("l", "other", "10 60").split()[1]
            assert other.ask("r", "other", token) == b"ok"
            time.sleep(0.01)
        assert desk.says("waitmost", "peak ").endswith("s")
        other.close()
        # A client that waits for its own lock is refused.
        assert holder.hear().startswith(b"ok ")
        assert holder.ask("l", "leader", "10") == b"error_deadlock"
        desk.says("deadlocks", "1")
        place = browser.run(PLACE, "leader")
        server.process.send_signal(signal.SIGTERM)
        desk.says("state", "Draining")
        desk.says("banner", "about to stop")
        assert browser.run(PLACE, "leader") == place
        server.process.kill()
        server.process.wait()
        desk.says("state", "Not connected")
        desk.says("banner", "does not answer")
        assert browser.run(PLACE, "leader") == place
        assert browser.run(ROWS) == ["leader"]
        ports = {"port": server.port, "http_port": server.http_port}
    with Server(binary, **ports) as server:
        desk.says("state", "Live")
        desk.says("news", "has restarted")
        desk.says("empty", "No lock is held")
    # What it keeps for the next start, and what it does after one of which it only knows how long to wait.
    with tempfile.TemporaryDirectory() as folder:
        with Server(binary, "--fence-state-file", folder + "/ledger", **ports):
            desk.says("facts", "restarts wait for leases")
        with Server(binary, "--state-dir", folder, **ports):
            desk.says("state", "Quarantine")
            desk.says("banner", "nothing is granted for 6")
            browser.until("return !document.getElementById('facts').textContent.includes('restart')")


def says_that_the_server_stands_by_and_who_leads(browser, binary):
    with Etcd("m1", "10.0.0.5:6388") as etcd, Server(binary, "--etcd", etcd.url, "--node", "m2") as server:
        desk = Desk(browser, server)
        desk.says("state", "Standby")
        desk.says("banner", "m1 at 10.0.0.5:6388 leads")
        assert browser.run("return document.getElementById('all').hidden && document.title === 'Standby · dflockd'")
        etcd.leave()
        desk.says("state", "Live")
        desk.says("facts", "locks go on elsewhere")
        desk.says("empty", "No lock is held")
        assert browser.run("return document.getElementById('banner').hidden && document.title.startsWith('0 held')")


def asks_nobody_else_and_breaks_no_rule(browser, server):
    browser.log("browser"), browser.log("performance")
    holder = server.line("l", SCRIPT, "10 60")
    desk = Desk(browser, server)
    desk.shown(SCRIPT)
    browser.run(OPEN, SCRIPT)
    polls = browser.run("return performance.getEntriesByType('resource').length")
    browser.until("return performance.getEntriesByType('resource').length > arguments[0] + 8", polls)
    asked = requests(browser)
    assert len(asked) > 8 and all(url.startswith((server.url + "/", "data:")) for url in asked), asked
    assert {url.removeprefix(server.url).split("?")[0] for url in asked if url.startswith("http")} == {
        "/", "/locks", "/locks/stats", "/metrics", "/ready", "/locks/%3Cscript%3Ealert(1)%3C%2Fscript%3E/status",
    }, asked
    assert (said := browser.log("browser")) == [], said
    # The same looks would see it if the page broke its rules.
    browser.run("fetch('http://127.0.0.1:1/').catch(() => { })")
    browser.run("const style = document.createElement('style'); style.textContent = 'body { display: none }'; document.body.append(style)")
    said = [entry["message"] for entry in browser.log("browser")]
    for rule in ["connect-src 'self'", "style-src"]:
        assert any(rule in message for message in said), (rule, said)
    fails("TrustedHTML", lambda: browser.run("document.body.innerHTML = '<p>x'"))
    fails("TrustedScript", lambda: browser.run("document.body.setAttribute('onclick', 'alert(1)')"))
    holder.close()


def requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]


def fails(why, act):
    try:
        act()
    except AssertionError as error:
        assert why in str(error), error
        return
    raise AssertionError(f"it does not fail: {why}")


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def seconds(text):
    """`1m 05s` in seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(part[:-1]) * units[part[-1]] for part in text.split(" ") if part[-1:] in units)


def three_in_a_row(numbers):
    return any({number + 1, number + 2} <= numbers for number in numbers)


def main(binary):
    with Browser() as browser:
        with Server(binary, "--distlockd-port", "0") as server:
            for claim in [
                shows_locks_of_the_line_port,
                counts_seconds_between_two_polls,
                breaks_a_lock_after_a_question,
                breaks_one_holder_of_a_semaphore_or_all,
                shows_any_name_as_text,
                finds_names_and_turns_pages,
                finds_a_lock_that_is_waited_for_on_any_page,
                keeps_its_header_in_sight,
                says_when_a_hold_began_and_until_when_it_renews_itself,
                needs_no_mouse,
                is_a_table_for_a_screen_reader,
                can_be_read_on_every_screen,
                asks_nobody_else_and_breaks_no_rule,
            ]:
                prove(claim, browser, server)
        with Server(binary, "--auth-token", "s3crét", "--admin-token", "adm1n") as server:
            prove(asks_for_a_token_and_keeps_it_in_the_tab, browser, server)
        prove(says_what_the_server_is_up_to, browser, binary)
        prove(says_that_the_server_stands_by_and_who_leads, browser, binary)


if __name__ == "__main__":
    main(sys.argv[1])
