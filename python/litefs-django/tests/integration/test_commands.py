"""The commands, on nodes."""

import json
import sqlite3

import httpx


def test_two_migrations_at_once(site):
    first, second = site.cluster.nodes[:2]
    both = [site.start(node, "migrate") for node in (first, second)]
    outputs = []
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        outputs.append(out)
    assert sum("Applying notes.0001_initial" in out for out in outputs) == 1
    assert sum("No migrations to apply" in out for out in outputs) == 1
    assert "No migrations to apply" in site.manage(first, "migrate")


def test_a_migration_waits_no_longer_than_told(site):
    first, second = site.cluster.nodes[:2]
    site.manage(first, "migrate", "--verbosity", "0")
    holder = first.connect("litefs-django-migrate.db")
    holder.begin()
    code, said = site.manage(second, "migrate", "--lock-timeout", "1", check=False)
    assert code == 1
    assert "another migrate runs" in said
    holder.rollback()
    holder.close()


def test_status_switchover_check(migrated):
    leader, follower = migrated.cluster.leader(), migrated.cluster.followers()[0]
    said = migrated.manage(follower, "litefs_status")
    assert f"leader {leader.name}" in said
    assert migrated.database in said
    told = json.loads(migrated.manage(follower, "litefs_status", "--json"))
    assert told["node"]["name"] == follower.name
    assert f"{follower.name} leads now" in migrated.manage(
        leader, "litefs_switchover", follower.name
    )
    assert migrated.cluster.leader() is follower
    code, said = migrated.manage(leader, "litefs_switchover", follower.name, check=False)
    assert code == 1
    code, said = migrated.manage(leader, "litefs_switchover", check=False, API=leader.api)
    assert code == 1
    assert "TOKEN_FILE" in said
    assert f"({migrated.database}): sound" in migrated.manage(follower, "litefs_check")
    migrated.cluster.kill(leader)
    code, said = migrated.manage(follower, "litefs_check", check=False)
    assert code == 1
    assert "not sound" in said


def test_import(site, tmp_path):
    """An existing project comes into the cluster."""
    site.manage(None, "migrate", "--verbosity", "0", ENABLED=False)
    plain = site.folder / ".litefs" / site.database
    database = sqlite3.connect(plain)
    with database:
        database.executemany("INSERT INTO notes_note(text) VALUES (?)", [("x" * 200,)] * 500)
    node = site.cluster.followers()[0]
    said = site.manage(node, "litefs_import", str(plain))
    assert site.database in said
    assert "position 0000000000000001/" in said
    database.close()
    with site.served(node) as url:
        assert httpx.get(f"{url}/count").text == "500"
        assert httpx.get(f"{url}/add/x").status_code == 200
    code, said = site.manage(node, "litefs_import", str(plain), check=False)
    assert code == 1
    assert "already" in said
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + b"x" * 8000)
    for path in (broken, tmp_path / "none.db"):
        code, said = site.manage(
            node, "litefs_import", str(path), "--database", "default", check=False
        )
        assert code == 1
        assert str(path) in said


def test_check_of_a_deployment(migrated):
    node = migrated.cluster.nodes[0]
    code, said = migrated.manage(node, "check", "--tag", "litefs", "--deploy", check=False)
    assert code == 0, said
    assert "no issues" in said
    code, said = migrated.manage(node, "check", "--tag", "litefs", check=False, MUONT="x")
    assert "did you mean MOUNT?" in said


def test_admin_page_cache_and_sessions(migrated):
    node = migrated.cluster.followers()[0]
    script = (
        "from django.contrib.auth.models import User; from django.test import Client\n"
        "from django.core.cache import cache\n"
        "user = User.objects.create_superuser('root', password='x'); client = Client()\n"
        "client.force_login(user)\n"
        "print(client.get('/admin/litefs_django/cluster/').content.decode())\n"
        "cache.set('a', 5); print('cached', cache.get('a'))\n"
        "other = User.objects.create_user('staff', is_staff=True); client.force_login(other)\n"
        "print('refused', client.get('/admin/litefs_django/cluster/').status_code)\n"
    )
    said = migrated.manage(node, "shell", "-c", script)
    assert all(f"<td>{name}</td>" in said for name in ("n1", "n2", "n3"))
    assert migrated.database in said
    assert "cached 5" in said
    assert "refused 403" in said
    migrated.cluster.kill(node)
    code, said = migrated.manage(node, "litefs_status", check=False)
    assert code == 1
    assert "no node answers" in said


def test_a_node_for_development(site):
    """DEV: two processes share one node, which ends with its starter."""
    folder = str(site.folder / "dev")
    said = site.manage(None, "migrate", DEV=True, FOLDER=folder)
    assert "Applying notes.0001_initial" in said
    with site.served(None, DEV=True, FOLDER=folder) as url:
        assert httpx.get(f"{url}/add/x", timeout=30).status_code == 200
        said = site.manage(None, "litefs_status", DEV=True, FOLDER=folder)
        assert "primary" in said
        assert httpx.get(f"{url}/count").text == "1"
