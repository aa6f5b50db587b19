"""The smallest FastAPI application, as the yardstick of `make bench-api`: it answers with stored documents.

python -m benchmarks.bare_api FILE    (JSON: the body of each path)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from retrainer.api.server import listen


def main() -> None:
    """Serve the documents of a file."""
    documents: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    app = FastAPI()
    for path in documents:

        @app.get(path)
        async def answer(request: Request) -> JSONResponse:
            return JSONResponse(documents[request.url.path])

    listening = listen("127.0.0.1", 0)
    print(f"Listening on http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, http="h11", loop="asyncio", access_log=False, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
