"""Cookies with positions: forged, stale or too long ones are no tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefs_py.domain import cookie
from litefs_py.domain.position import Token

KEY, OTHER, NOW = b"k" * 32, b"o" * 32, 1_800_000_000.0
names = st.text(min_size=1, max_size=40)
tokens = st.dictionaries(names, st.integers(0, 2**63), min_size=1, max_size=12).map(Token)


@given(tokens)
def test_what_is_signed_is_read_and_stays_short(token):
    value = cookie.sign(token, KEY, NOW)
    assert len(value) <= cookie.LONGEST
    assert set(value) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:&-_%~"
    )
    if value:
        kept = cookie.read(value, [OTHER, KEY], NOW)
        assert kept
        assert dict(kept).items() <= dict(token).items()
        if len(token) <= 3:
            assert dict(kept) == dict(token)


@given(tokens, st.data())
def test_a_changed_character_is_no_token(token, data):
    value = cookie.sign(token, KEY, NOW)
    if not value:
        return
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    forged = value[:place] + other + value[place + 1 :]
    assert (cookie.read(forged, [KEY], NOW) is None) == (forged != value)


@given(st.text(max_size=2000))
def test_anything_else_is_no_token(text):
    assert cookie.read(text, [KEY], NOW) is None


def test_signed_but_of_another_shape_is_no_token():
    for text in ("1.x.a:1", "1.5.a", "2.1800000000.a:1", "1.1800000000.a:zz", "1.1800000000"):
        value = f"{text}.{cookie._signature(text, KEY)}"
        assert cookie.read(value, [KEY], NOW) is None, text


@pytest.mark.parametrize(
    ("age", "good"), [(0, True), (60, True), (91, False), (-29, True), (-31, False)]
)
def test_age(age, good):
    value = cookie.sign(Token({"app.db": 7}), KEY, NOW)
    assert (cookie.read(value, [KEY], NOW + age) is not None) == good


def test_another_key():
    assert cookie.read(cookie.sign(Token({"app.db": 7}), OTHER, NOW), [KEY], NOW) is None
