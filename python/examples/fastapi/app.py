"""Notes, by FastAPI and SQLModel on a replicated SQLite."""

import uuid

from fastapi import FastAPI, HTTPException
from litefs_fastapi import Litefs
from litefs_py import CommitOutcomeUnknown
from sqlmodel import Field, Session, SQLModel, func, select

litefs = Litefs.from_environment()
engine = litefs.create_engine("notes.db")
app = FastAPI(lifespan=litefs.lifespan, title="Notes")
litefs.install(app)


class Note(SQLModel, table=True):
    # Given by who sends it: a note that is sent twice is there once.
    id: uuid.UUID = Field(primary_key=True)
    text: str = Field(max_length=200)


@app.put("/notes/{id}")
def put(id: uuid.UUID, text: str) -> Note:
    with Session(engine, expire_on_commit=False) as session:
        note = session.merge(Note(id=id, text=text))
        try:
            session.commit()
        except CommitOutcomeUnknown as error:
            # The load balancer sends it again, to another node.
            raise HTTPException(503, "not known whether it was kept") from error
        return note


@app.get("/notes")
def notes() -> list[Note]:
    with Session(engine) as session:
        return list(session.exec(select(Note).limit(100)))


@app.get("/count")
def count() -> int:
    with Session(engine) as session:
        return session.exec(select(func.count()).select_from(Note)).one()
