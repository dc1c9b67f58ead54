"""Both examples behind nginx, while a node dies: what was acknowledged is there, and no error page is seen."""

import importlib.util
import shutil
import threading
import uuid
from pathlib import Path

import httpx
import pytest
from litefs_py.cluster import wait_for
from litefs_py.testing import why_not

EXAMPLES = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")


@pytest.fixture(autouse=True)
def _possible():
    if reason := why_not():
        pytest.skip(reason)
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        pytest.skip("no nginx on this machine")


def example(name, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(f"run_{name}", EXAMPLES / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fail_over(site, done, each=15):
    """Kills the leader, a follower, and hands over in between, while `done()` grows."""

    def progress(what):
        before = done()
        wait_for(lambda: done() >= before + each, 120, f"work after {what}")

    progress("the start")
    leader = site.cluster.leader()
    site.kill(leader)
    progress("the death of the leader")
    site.restart(leader)
    progress("its return")
    follower = site.cluster.followers()[0]
    follower.client.switchover(follower.name)
    progress("the switchover")
    follower = site.cluster.followers()[0]
    site.kill(follower)
    progress("the death of a follower")
    site.restart(follower)
    progress("its return")


def put(client, note):
    """A response that was cut off on its way is beyond what nginx can repair; the client asks again."""
    for _ in range(5):
        try:
            return client.put(f"/notes/{note}", params={"text": "x"})
        except httpx.RemoteProtocolError:
            continue
    raise AssertionError("cut off five times")


def test_notes(tmp_path, monkeypatch):
    run = example("fastapi", monkeypatch)
    with run.site(tmp_path) as site:
        kept, codes, over = [], [], threading.Event()

        def write():
            with httpx.Client(base_url=site.url, timeout=60) as client:
                while not over.is_set():
                    note = uuid.uuid4()
                    answer = put(client, note)
                    codes.append(answer.status_code)
                    if answer.status_code == 200:
                        kept.append(note)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            fail_over(site, lambda: len(kept))
        finally:
            over.set()
            thread.join()
        assert set(codes) == {200}
        assert httpx.get(f"{site.url}/count", timeout=60).json() == len(kept)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_board_in_a_browser(tmp_path, monkeypatch):
    """A person who adds entries and sees each on the next page, whichever node serves it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    run = example("django", monkeypatch)
    with run.site(tmp_path) as site, playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        bad = []
        page.on("response", lambda r: bad.append((r.status, r.url)) if r.status >= 400 else None)
        page.goto(site.url)
        added = 0

        def add():
            nonlocal added
            page.fill("#text", f"entry {added + 1}")
            page.click("#send")
            added += 1
            assert page.locator("#count").inner_text() == str(added)
            assert page.locator("li").first.inner_text() == f"entry {added}"

        def some():
            for _ in range(5):
                add()
            return added

        def work(action, *arguments):
            """Something happens to a node while entries are added."""
            thread = threading.Thread(target=action, args=arguments)
            thread.start()
            while thread.is_alive():
                add()
            thread.join()
            some()

        some()
        leader = site.cluster.leader()
        work(site.kill, leader)
        work(site.restart, leader)
        follower = site.cluster.followers()[0]
        work(follower.client.switchover, follower.name)
        follower = site.cluster.followers()[0]
        work(site.cluster.kill, follower)
        work(site.cluster.restart, follower)
        page.goto(f"{site.url}/admin/")
        page.fill("#id_username", "admin")
        page.fill("#id_password", "admin")
        page.click("[type=submit]")
        page.goto(f"{site.url}/admin/litefs_django/cluster/")
        assert "A majority answers" in page.content()
        browser.close()
        # Browsers ask for an icon by themselves, and for the admin's styles.
        assert [
            entry for entry in bad if "favicon" not in entry[1] and "/static/" not in entry[1]
        ] == []
