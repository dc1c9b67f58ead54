# machines: n1 n2 n3
# engines: embedded
# wants: site
# A Django site of the wheels on every machine, with users that send forms: nothing of what was answered is lost
# when the leader changes, a daemon is killed, and a machine loses its power. The machines' Python finds the wheels,
# on Debian in /opt/site; /opt/project is the example of python/examples/django.
PYTHON = '"$(command -v python3)"'
BOARD = "http://127.0.0.1:8000"
ENVIRONMENT = (
    "-p Environment=PYTHONPATH=/opt/site:/opt/project -p Environment=DJANGO_SETTINGS_MODULE=settings "
    "-p WorkingDirectory=/opt/project"
)
# One request a thread; standard library beside Django.
SERVER = """
import socketserver, wsgiref.simple_server as simple
from wsgi import application
class Server(socketserver.ThreadingMixIn, simple.WSGIServer):
    daemon_threads = True
class Quiet(simple.WSGIRequestHandler):
    def log_message(self, *_):
        pass
simple.make_server("127.0.0.1", 8000, application, Server, Quiet).serve_forever()
"""
# A user: takes the page, sends its form, writes down what was answered.
USER = """
import http.cookiejar, re, sys, time, urllib.parse, urllib.request
board, acked = sys.argv[1], open("/root/forms", "a")
jar = http.cookiejar.CookieJar()
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
while True:
    try:
        page = browser.open(board, timeout=30).read().decode()
        fields = dict(re.findall(r'name="(csrfmiddlewaretoken|form)" value="([^"]+)"', page))
        sent = urllib.parse.urlencode({**fields, "text": "from " + sys.argv[2]}).encode()
        answer = browser.open(board + "/add", sent, timeout=30)
        if answer.status == 200:
            print(fields["form"].replace("-", ""), file=acked, flush=True)
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.05)
"""


def django(node):
    node.succeed(
        f"systemd-run --unit=site -p Restart=always {ENVIRONMENT} {PYTHON} -c {shlex.quote(SERVER)}"
    )
    node.wait_until_succeeds(f"curl -sf -m 20 -o /dev/null {BOARD}/", timeout=60)


def users(node):
    node.succeed("touch /root/forms")
    node.succeed(
        f"systemd-run --unit=users -p Restart=always {PYTHON} -c {shlex.quote(USER)} "
        f"{BOARD} {node.name}"
    )
    answered(node)


def answered(node, forms=5):
    now = int(node.succeed("wc -l < /root/forms"))
    node.wait_until_succeeds(f"test $(wc -l < /root/forms) -ge {now + forms}", timeout=120)


start_all()
form(n1, n2, n3)
n1.succeed(f"systemd-run --wait --pipe {ENVIRONMENT} {PYTHON} -m django migrate >&2", timeout=120)
for node in machines:
    django(node)
    users(node)

with subtest("the leadership is handed over"):
    before = leader(n1, n2, n3)
    to = next(node for node in (n1, n2, n3) if node is not before)
    n1.succeed(f"litefs-py switchover --to {to.name}", timeout=30)
    for node in machines:
        answered(node)

with subtest("the leader's daemon is killed"):
    killed = leader(n1, n2, n3)
    killed.succeed("systemctl kill --kill-whom=main --signal=KILL litefs-py")
    for node in machines:
        answered(node)

with subtest("a machine loses its power"):
    crashed = leader(n1, n2, n3)
    others = [node for node in (n1, n2, n3) if node is not crashed]
    crashed.crash()
    for node in others:
        answered(node)
    crashed.start()
    ready(crashed, timeout=120)
    django(crashed)
    users(crashed)

for node in machines:
    node.succeed("systemctl stop users", timeout=60)
forms = {node.name: set(node.succeed("cat /root/forms").split()) for node in machines}
for node in machines:
    node.wait_until_succeeds("litefs-py barrier", timeout=60)
    kept = set(sql(node, "select form from board_entry", "board.db").split())
    for name, sent in forms.items():
        t.assertEqual(sent - kept, set(), f"{node.name} lacks forms of {name} that were answered")
n1.succeed("litefs-py check", timeout=60)
