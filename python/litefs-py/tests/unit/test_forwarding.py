"""Which requests go to the primary, and what of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefs_py import NodeDown, NotPrimaryError, QuorumLost, SettingsError
from litefs_py.adapters.config.app import AppSettings
from litefs_py.usecases.forwarding import (
    HOP,
    Answer,
    Forward,
    Hop,
    Rules,
    announced,
    has_body,
    has_hopped,
    inward,
    length,
    no_answer,
    of_environ,
    outward,
    target,
)

URL = "http://{name}:8000"
HERE = Hop("n2", "192.0.2.7", "https")


HOPPED = [(HOP, b"n3")]
TO_N1 = Forward("http://n1:8000")


@pytest.mark.parametrize(
    ("primary", "headers", "rules", "expected"),
    [
        ("n1", [], Rules(URL), TO_N1),
        ("n1", [], Rules(URL, refuse=True), TO_N1),
        ("n1", HOPPED, Rules(URL), 503),
        # The primary, or nobody is known to be it: a write says so itself.
        (None, [], Rules(URL), None),
        (None, HOPPED, Rules(URL, refuse=True), None),
        ("n1", [], Rules(refuse=True), 503),
        ("n1", [], Rules(refuse=True, not_primary_status=421), 421),
        ("n1", [], Rules({"n1": "http://a"}), Forward("http://a")),
        ("n1", [], Rules({"n3": "http://a"}), 503),
        # From the mount, into a URL.
        ("n1@evil/", [], Rules(URL), 503),
        ("n1:80", [], Rules(URL), 503),
    ],
)
def test_before(primary, headers, rules, expected):
    step = rules.before(headers, primary)
    assert (step.status if isinstance(step, Answer) else step) == expected


@given(st.text(), st.booleans(), st.booleans())
def test_nothing_goes_on_twice_or_to_nowhere(primary, refuse, hopped):
    rules = Rules(URL, refuse)
    step = rules.before(HOPPED if hopped else [], primary)
    if isinstance(step, Forward):
        assert not hopped
        host = step.url.removeprefix("http://").removesuffix(":8000")
        assert not set(host) & set("/@:?#[] \r\n")
    else:
        assert not set(b"\r\n\0") & set(b"".join(value for _, value in step.headers))


ELSEWHERE = NotPrimaryError("it writes", "n1")


@pytest.mark.parametrize(
    ("method", "path", "headers", "error", "expected"),
    [
        ("GET", "/x", [], ELSEWHERE, Forward("http://n1:8000", body=False)),
        ("HEAD", "/x", [(b"content-length", b"0")], ELSEWHERE, Forward("http://n1:8000", body=False)),
        # It may have been done in part, by what is no database.
        ("POST", "/x", [], ELSEWHERE, 503),
        ("GET", "/here/x", [], ELSEWHERE, 503),
        ("GET", "/x", HOPPED, ELSEWHERE, 503),
        # Its body was read here.
        ("GET", "/x", [(b"Content-Length", b"3")], ELSEWHERE, 503),
        ("GET", "/x", [(b"Transfer-Encoding", b"chunked")], ELSEWHERE, 503),
        ("GET", "/x", [], NotPrimaryError("nobody knows"), 503),
        ("GET", "/x", [], NotPrimaryError("it writes", "n1/evil"), 503),
        ("GET", "/x", [], NodeDown("down"), 503),
        ("GET", "/x", [], QuorumLost("lost"), 503),
    ],
)  # fmt: skip
def test_after(method, path, headers, error, expected):
    step = Rules(URL, local_paths=("/here",)).after(method, path, headers, error)
    assert (step.status if isinstance(step, Answer) else step) == expected
    # Without a place to send it, it stays.
    assert isinstance(Rules().after(method, path, headers, error), Answer)


def test_a_socket_that_writes_is_refused_on_a_replica():
    rules = Rules(URL, write_paths=("/live/edit",), local_paths=("/live/edit/own",))
    assert rules.of_socket("/live/edit/1", "n1") == rules.not_here("n1")
    assert rules.of_socket("/live/edit/1", None) is None
    assert rules.of_socket("/live", "n1") is None
    assert rules.of_socket("/live/edit/own", "n1") is None
    assert Rules(write_paths=("/live",)).of_socket("/live", "n1") is None


def said(answer):
    return answer.status, dict(answer.headers)


def test_what_is_answered():
    rules = Rules(retry_after=7)
    status, headers = said(rules.unavailable())
    assert (status, headers[b"retry-after"], headers[b"cache-control"]) == (503, b"7", b"no-store")
    status, headers = said(rules.not_here("n1"))
    assert (status, headers[b"retry-after"], headers[b"litefs-primary"]) == (503, b"7", b"n1")
    # 421: another node is to be asked, now.
    status, headers = said(Rules(not_primary_status=421).not_here(None))
    assert status == 421
    assert not {b"retry-after", b"litefs-primary"} & set(headers)
    status, headers = said(no_answer())
    assert (status, b"retry-after" in headers) == (504, False)
    for answer in (rules.unavailable(), rules.not_here("é\u20ac"), no_answer()):
        assert dict(answer.headers)[b"content-length"] == str(len(answer.text)).encode()


@pytest.mark.parametrize(
    ("headers", "endless", "expected"),
    [
        ([(b"Content-Length", b"12")], False, 12),
        ([], True, 0),
        ([(b"transfer-encoding", b"chunked")], True, None),
        # Nobody could say where it ends.
        ([(b"transfer-encoding", b"chunked")], False, 0),
    ],
)
def test_how_much_of_a_body_is_read(headers, endless, expected):
    assert announced(headers, endless) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", False),
        ("HEAD", "/x", False),
        ("POST", "/", True),
        ("DELETE", "/x", True),
        ("PROPFIND", "/x", True),
        ("GET", "/login", True),
        ("GET", "/login/again", True),
        ("GET", "/loginx", False),
        ("POST", "/here/x", False),
        ("POST", "/here", False),
        ("GET", "/here/login", False),
    ],
)
def test_what_is_of_concern(method, path, expected):
    paths = {"write_paths": ("/login", "/here/login"), "local_paths": ("/here/",)}
    assert Rules(URL, **paths).concern(method, path) is expected
    assert Rules(refuse=True, **paths).concern(method, path) is expected
    assert not Rules(**paths).concern(method, path)
    # What is answered here may write all the same, on the primary.
    assert Rules(**paths).is_write(method, path) is (expected or path.startswith("/here"))


def test_headers_that_go_on():
    given_headers = [
        (b"Host", b"app.example"),
        (b"Connection", b"close, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Cookie", b"a=1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"5"),
        (b"Expect", b"100-continue"),
        (b"X-Forwarded-For", b"203.0.113.1"),
        (b"X-Forwarded-For", b"203.0.113.2"),
        (HOP, b"somebody"),
    ]
    assert outward(given_headers, HERE) == [
        (b"host", b"app.example"),
        (b"cookie", b"a=1"),
        (b"x-forwarded-for", b"203.0.113.1, 203.0.113.2, 192.0.2.7"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"app.example"),
        (HOP, b"n2"),
    ]


def test_a_proxy_in_front_is_believed():
    before = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"app.example")]
    sent = dict(outward([*before, (b"host", b"inside")], Hop("n2", None, "http")))
    assert sent[b"x-forwarded-proto"] == b"https"
    assert sent[b"x-forwarded-host"] == b"app.example"
    assert b"x-forwarded-for" not in sent


def test_headers_of_an_answer():
    headers = [
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Server", b"x"),
        (b"Date", b"x"),
        (b"Content-Encoding", b"gzip"),
    ]
    assert inward(headers) == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"content-encoding", b"gzip"),
    ]


words = st.binary(min_size=1, max_size=12)


@given(st.lists(st.tuples(words, words), max_size=8), st.sampled_from([b"close", b"x, TE", b""]))
def test_of_a_connection_nothing_goes_on(headers, connection):
    sent = outward([*headers, (b"Connection", connection), (b"X", b"1"), (b"te", b"x")], HERE)
    names = [name for name, _ in sent]
    assert not {b"connection", b"te", b"transfer-encoding", b"content-length"} & set(names)
    assert (b"x" in names) is (connection != b"x, TE" or any(n.lower() == b"x" for n, _ in sent))
    assert has_hopped(sent)
    assert names.count(HOP) == 1


@given(st.binary(), st.binary())
def test_a_target_is_one_word(path, query):
    made = target(b"/" + path, query)
    assert made.startswith(b"/")
    assert not set(made) & set(b" \r\n\t\x00#")
    assert made.isascii()


def test_what_is_escaped_stays_so():
    assert target(b"/a%2Fb/\xc3\xa9", b"q=1%202&r[]=3") == b"/a%2Fb/%C3%A9?q=1%202&r[]=3"


def test_headers_of_cgi():
    environ = {
        "HTTP_X_Y": "1", "HTTP_HOST": "h", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "3",
        "wsgi.input": object(), "PATH_INFO": "/",
    }  # fmt: skip
    assert set(of_environ(environ)) == {
        (b"x-y", b"1"), (b"host", b"h"), (b"content-type", b"text/plain"), (b"content-length", b"3"),
    }  # fmt: skip
    assert of_environ({"CONTENT_LENGTH": "", "CONTENT_TYPE": ""}) == []


def test_bodies():
    assert length([(b"Content-Length", b"12")]) == 12
    assert length([(b"content-length", b"-1")]) is None
    assert length([]) is None
    assert not has_body([(b"content-length", b"0")])
    assert has_body([(b"content-length", b"1")])
    assert has_body([(b"transfer-encoding", b"chunked")])


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({"forwrd": URL}, "did you mean forward?"),
        ({"forward": "http://{nam}:8000"}, "{name} is all"),
        ({"forward": {"n1": URL}}, "{name} is all"),
        ({"forward": "n1:8000"}, "expected http://HOST:PORT"),
        ({"forward": "http://{name}:8000/app"}, "the path is the request's own"),
        ({"forward": "http://{name}:80000"}, "Port"),
        ({"forward": "ftp://{name}"}, "expected http://HOST:PORT"),
        ({"write_paths": ["login"]}, "begins with /"),
        ({"safe_methods": ["get"]}, "in capitals"),
        ({"not_primary_status": 502}, "not_primary_status"),
        ({"forward_timeout": 0}, "forward_timeout"),
    ],
)
def test_mistakes_in_settings(given_settings, said):
    with pytest.raises(SettingsError) as caught:
        AppSettings.parse(given_settings)
    assert said in str(caught.value)


def test_settings_of_the_environment():
    settings = AppSettings.from_environment(
        {
            "LITEFS_FORWARD": "n1=http://a:1, n2=https://b:2",
            "LITEFS_WRITE_PATHS": "/a,/b",
            "LITEFS_NOT_PRIMARY_STATUS": "421",
        }
    )
    assert settings.forward == {"n1": "http://a:1", "n2": "https://b:2"}
    assert settings.rules.write_paths == ("/a", "/b")
    assert settings.not_primary_status == 421
    assert AppSettings.from_environment({"LITEFS_FORWARD": URL}).rules.before([], "n7") == Forward(
        "http://n7:8000"
    )
    off = AppSettings(forward=URL, refuse_writes=True, enabled=False)
    assert not off.rules.concern("POST", "/")
