"""Engines without a node: plain SQLite with the same settings."""

import asyncio
import os
import sqlite3

import pytest
import sqlmodel
from litefs_fastapi import Litefs
from litefs_fastapi.mode import reading
from litefs_py import NodeDown, SettingsError
from litefs_py.usecases import writes
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError


class Note(sqlmodel.SQLModel, table=True):
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    text: str


@pytest.fixture
def litefs(tmp_path):
    return Litefs(enabled=False, folder=tmp_path)


@pytest.fixture
def engine(litefs):
    engine = litefs.create_engine("app.db")
    sqlmodel.SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


def one(connection, statement):
    return connection.execute(text(statement)).scalar()


def test_settings(engine):
    with engine.connect() as connection:
        assert one(connection, "PRAGMA journal_mode") == "wal"
        assert one(connection, "PRAGMA foreign_keys") == 1
        assert one(connection, "PRAGMA synchronous") == 1
        assert one(connection, "PRAGMA busy_timeout") == 5000


def test_how_transactions_begin(engine, tmp_path):
    other = sqlite3.connect(tmp_path / "app.db", timeout=0, isolation_level=None)
    with engine.connect() as connection:
        one(connection, "SELECT count(*) FROM note")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    deferred = engine.execution_options(litefs_begin="DEFERRED")
    with deferred.connect() as connection:
        one(connection, "SELECT count(*) FROM note")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    with reading(), engine.connect() as connection:
        one(connection, "SELECT count(*) FROM note")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    wrong = engine.execution_options(litefs_begin="SOON")
    with wrong.connect() as connection, pytest.raises(ValueError, match="litefs_begin"):
        connection.begin()
    other.close()


def test_rollback_savepoint_and_errors(engine):
    with sqlmodel.Session(engine) as session:
        session.add(Note(id=1, text="kept"))
        session.commit()
        with session.begin_nested() as nested:
            session.add(Note(id=2, text="not kept"))
            session.flush()
            nested.rollback()
        session.commit()
        session.add(Note(id=1, text="twice"))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert [note.id for note in session.exec(sqlmodel.select(Note))] == [1]


def test_async(litefs, engine):
    async def work():
        awaited = litefs.create_async_engine("app.db")
        async with awaited.begin() as connection:
            with writes.watching() as names:
                await connection.execute(text("INSERT INTO note(text) VALUES ('x') RETURNING id"))
                assert names == {"app.db"}
        async with awaited.connect() as connection:
            found = await connection.execute(text("SELECT count(*) FROM note"))
            assert found.scalar() == 1
            assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        await awaited.dispose()

    asyncio.run(work())


def test_who_watches_is_told(engine):
    with writes.watching() as names, sqlmodel.Session(engine) as session:
        session.exec(sqlmodel.select(Note)).all()
        assert not names
        session.add(Note(text="x"))
        session.commit()
        assert names == {"app.db"}


def test_a_child_opens_its_own(engine):
    connection = engine.connect()
    before = connection.connection.dbapi_connection
    connection.close()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with engine.connect() as connection:
            own = connection.connection.dbapi_connection is not before
            os.write(writer, b"own" if own else b"inherited")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 99) == b"own"
    os.close(reader)
    os.close(writer)


def test_nothing_is_made_beneath_a_mount_that_is_not_there(tmp_path):
    engine = Litefs(mount=tmp_path, secret="s").create_engine("app.db")
    with pytest.raises(NodeDown, match="nothing is mounted"):
        engine.connect()
    assert not list(tmp_path.iterdir())


def test_settings_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LITEFS_ENABLED", "false")
    monkeypatch.setenv("LITEFS_FOLDER", str(tmp_path))
    monkeypatch.setenv("LITEFS_API", "http://127.0.0.1:8008,http://10.0.0.2:8008")
    settings = Litefs.from_environment().settings
    assert (settings.enabled, settings.folder) == (False, tmp_path)
    assert len(settings.api) == 2
    monkeypatch.setenv("LITEFS_BUSY_TIMEOUT", "soon")
    with pytest.raises(SettingsError, match="LITEFS_BUSY_TIMEOUT: "):
        Litefs.from_environment()
    with pytest.raises(SettingsError, match="did you mean mount?"):
        Litefs(muont="/x")
