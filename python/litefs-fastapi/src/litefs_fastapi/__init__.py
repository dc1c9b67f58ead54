"""FastAPI, Starlette, Flask and SQLAlchemy on SQLite that is replicated by litefs-py.

litefs = Litefs(mount="/litefs", secret=os.environ["SECRET"])
engine = litefs.create_engine("app.db")
app = FastAPI(lifespan=litefs.lifespan)
litefs.install(app)
"""

from litefs_fastapi.asgi import LitefsMiddleware
from litefs_fastapi.litefs import Litefs
from litefs_fastapi.wsgi import LitefsWsgiMiddleware

__all__ = ["Litefs", "LitefsMiddleware", "LitefsWsgiMiddleware"]
