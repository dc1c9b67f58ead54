"""The daemon's configuration: wrong keys are named with the nearest known one."""

import pytest
from litefs_py import SettingsError, settings

GOOD = {
    "cluster": "app",
    "node": {"id": 1, "name": "n1"},
    "members": [{"id": 1, "name": "n1", "address": "10.0.0.1:4321"}],
}


def test_what_is_rendered_is_read(tmp_path):
    config = settings.parse({**GOOD, "write": {"lock_wait": "20ms"}})
    assert config.write.lock_wait == "20ms"
    assert config.write.commit_timeout == "15s"
    settings.save(config, tmp_path / "config.yml")
    assert settings.load(tmp_path / "config.yml") == config
    assert "commit_timeout" not in settings.render(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wirte": {}}, "wirte: there is no such setting; did you mean write?"),
        ({"write": {"lockwait": "1s"}}, "did you mean write.lock_wait?"),
        ({"mesh": {"tls": {"cret": "x"}}}, "did you mean mesh.tls.cert?"),
        ({"members": [{"id": 1, "name": "a", "addres": "x"}]}, "did you mean members.0.address?"),
        ({"write": {"lock_wait": "soon"}}, "write.lock_wait: "),
        ({"journal": "delete"}, "journal: "),
        ({"cluster": None}, "cluster: "),
    ],
)
def test_mistakes(change, said):
    with pytest.raises(SettingsError) as caught:
        settings.parse({**GOOD, **change})
    assert said in str(caught.value)


def test_every_problem_is_told(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("cluster: app\nx: 1\ny: 2\n")
    with pytest.raises(SettingsError) as caught:
        settings.load(path)
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    assert all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize("text", ["a: [", "", "- 1", "\x00"])
def test_no_configuration(tmp_path, text):
    (tmp_path / "config.yml").write_text(text)
    with pytest.raises(SettingsError):
        settings.load(tmp_path / "config.yml")
    with pytest.raises(SettingsError, match="No such file"):
        settings.load(tmp_path / "none.yml")
