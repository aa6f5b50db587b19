"""Which channels are notified of what, and that a failed delivery changes nothing."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from retrainer.config import NotificationSettings
from retrainer.notify import delivery, notifier
from retrainer.notify.delivery import NotDelivered, deliver, post
from retrainer.notify.messages import message_of
from retrainer.notify.notifier import Notifier
from tests.conftest import configure, import_regular_posts
from tests.notify.receiver import Receiver
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Completed, Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

TOKEN = "T0123456789-very-secret"  # noqa: S105  made up


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first delivery loads libraries, on a busy machine for longer than `notify-test` waits."""
    monkeypatch.setattr(notifier, "TEST_SECONDS", 60)


@pytest.fixture
def with_posts(folder: Path, prepare: Prepare) -> Path:
    prepare(folder, import_regular_posts)
    return folder


@pytest.fixture
def webhook(with_posts: Path, receiver: Receiver) -> dict[str, str]:
    """The environment of a project whose webhook is the receiver of every event."""
    return {
        "HOOK": f"{receiver.url}/services/{TOKEN}",
        "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
        "RETRAINER_NOTIFICATIONS__WEBHOOK__EVENTS": "[failure, promotion, rollback, no_promotion]",
        "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "60",
    }


@pytest.fixture
def impatient_webhook(webhook: dict[str, str]) -> dict[str, str]:
    """The environment of such a project, which waits for a second only."""
    return {**webhook, "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "1"}


def test_every_event_reaches_the_webhook_with_its_run(
    webhook: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    first = retrainer("train", "timing", "--json", env=webhook).json["training_runs"][0]["model_version_id"]
    assert receiver.events() == ["promotion"]
    assert receiver.received[0].json["version_id"] == first
    assert receiver.received[0].headers["x-retrainer-event"] == "promotion"
    second = retrainer("train", "timing", "--json", env=webhook).json["training_runs"][0]
    assert receiver.events()[1:] == ["no_promotion"]
    message = receiver.received[1].json
    assert message["run"] == {key: second[key] for key in message["run"]}
    assert message["reason"] in message["text"]
    assert retrainer("promote", second["model_version_id"], env=webhook).code == 0
    assert retrainer("rollback", "timing", env=webhook).code == 0
    assert receiver.events()[2:] == ["promotion", "rollback"]
    assert receiver.received[3].json["version_id"] == first
    assert receiver.received[3].json["from_version_id"] == second["model_version_id"]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES": "5000"}, 3, "Insufficient data for training"),
        ({"RETRAINER_TIMING_MODEL__BASELINE__NONE": "1"}, 2, "unknown key"),
        ({"RETRAINER_DATABASE__URL": "sqlite:////dev/null/x.db"}, 1, "cannot create the folder"),
    ],
    ids=["in the run", "before the run", "before all runs"],
)
def test_a_failure_is_notified_wherever_it_happens(
    given: dict[str, str], code: int, words: str, webhook: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    done = retrainer("train", "timing", env={**webhook, **given})
    assert done.code == code
    assert receiver.events() == ["failure"]
    assert words in receiver.received[0].json["text"]
    assert retrainer("train", "timing", "--dry-run", env={**webhook, **given}).code == code
    assert receiver.events() == ["failure"], "a dry run is not notified"


def test_only_selected_events_are_notified(webhook: dict[str, str], receiver: Receiver, retrainer: Runner) -> None:
    only = {**webhook, "RETRAINER_NOTIFICATIONS__WEBHOOK__EVENTS": "[rollback]"}
    retrainer("train", "timing", env=only)
    second = retrainer("train", "timing", "--json", env=only).json["training_runs"][0]
    retrainer("promote", second["model_version_id"], env=only)
    retrainer("rollback", "timing", env=only)
    assert receiver.events() == ["rollback"]


def test_the_body_is_signed_and_never_sent_unsigned(
    webhook: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    signed = {**webhook, "RETRAINER_NOTIFICATIONS__WEBHOOK__SECRET_VARIABLE": "HOOK_KEY"}
    assert retrainer("notify-test", env=signed, HOOK_KEY="kéy").code == 0
    (one,) = receiver.received
    digest = hmac.new("kéy".encode(), one.raw, hashlib.sha256).hexdigest()
    assert one.headers["x-retrainer-signature"] == f"sha256={digest}"
    done = retrainer("notify-test", env=signed)
    assert (done.code, done.out) == (1, "The webhook: the environment variable HOOK_KEY is not set\n")
    assert len(receiver.received) == 1


def assert_harmless(done: Completed, words: str) -> None:
    """The run is unchanged; there is one warning about the webhook, without its URL."""
    assert done.code == 0
    assert "TIMING MODEL RETRAINING COMPLETE" in done.err
    assert done.err.count("WARNING: The webhook was not notified of the promotion: ") == 1
    assert words in done.err
    assert TOKEN not in done.err + done.out


def test_a_webhook_that_hangs_times_out(
    impatient_webhook: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    receiver.answers = ["hang"] * 10
    assert_harmless(retrainer("train", "timing", env=impatient_webhook), "no answer from '127.0.0.1'")


def test_a_webhook_that_answers_byte_by_byte_times_out(
    impatient_webhook: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    receiver.answers = ["drip"] * 10
    assert_harmless(retrainer("train", "timing", env=impatient_webhook), "no answer from '127.0.0.1'")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(
    status: int, webhook: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    with Receiver() as elsewhere:
        receiver.answers, receiver.redirect_to = [status] * 10, f"{elsewhere.url}/{TOKEN}"
        assert_harmless(retrainer("train", "timing", env=webhook), f"it redirects (HTTP {status})")
        assert elsewhere.received == []
    assert len(receiver.received) == 1


def test_a_server_error_is_retried(webhook: dict[str, str], receiver: Receiver, retrainer: Runner) -> None:
    receiver.answers = [500, 429]
    done = retrainer("train", "timing", env=webhook)
    assert "was not notified" not in done.err
    assert len({one.json["id"] for one in receiver.received}) == 1
    assert len(receiver.received) == 3


@pytest.mark.slow
def test_a_persistent_server_error_is_a_warning(
    webhook: dict[str, str], receiver: Receiver, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "GRACE_SECONDS", 60)  # the attempts alone decide
    receiver.answers = [500] * 100
    limited = {**webhook, "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "15"}  # the last attempt is after 7.5 s
    assert_harmless(retrainer("train", "timing", env=limited), "it returned HTTP 500")


def test_a_client_error_is_not_retried(webhook: dict[str, str], receiver: Receiver, retrainer: Runner) -> None:
    receiver.answers = [404] * 10
    assert_harmless(retrainer("train", "timing", env=webhook), "it returned HTTP 404")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("url", "seconds", "words"),
    [
        (f"http://127.0.0.1:9/{TOKEN}", "1", "no answer"),
        (f"ftp://127.0.0.1/{TOKEN}", "60", "not hold an http or https URL"),
        pytest.param(f"http://[{TOKEN}", "1", "of the promotion", marks=pytest.mark.slow),
        pytest.param(TOKEN, "60", "not hold an http or https URL", marks=pytest.mark.slow),
        pytest.param("", "60", "the environment variable HOOK is not set", marks=pytest.mark.slow),
    ],
)
def test_an_unusable_url_is_a_warning_without_the_url(
    url: str, seconds: str, words: str, webhook: dict[str, str], retrainer: Runner, tmp_path: Path, folder: Path
) -> None:
    environ = {**webhook, "HOOK": url, "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": seconds}
    log = tmp_path / "log"
    done = retrainer("train", "timing", "--verbose", "--traceback", "--log-file", str(log), "--json", env=environ)
    assert_harmless(done, words)
    assert TOKEN not in log.read_text()
    assert TOKEN.encode() not in (folder / "data" / "retrainer.db").read_bytes()


def test_a_url_in_the_settings_is_refused_without_showing_it(folder: Path, retrainer: Runner) -> None:
    for name in (f"https://hooks.example/{TOKEN}", "RETRAINER_HOOK"):
        done = retrainer("train", RETRAINER_NOTIFICATIONS__HEALTHCHECK__URL_VARIABLE=f"'{name}'")
        assert done.code == 2
        assert "the name of an environment variable" in done.err
        assert TOKEN not in done.err


def test_apprise_delivers_messages_and_its_errors_are_not_repeated(
    with_posts: Path, receiver: Receiver, retrainer: Runner, plugins: Plugins
) -> None:
    environ = {
        "URLS": f"{receiver.url.replace('http', 'json')}/{TOKEN}",
        "RETRAINER_NOTIFICATIONS__APPRISE__URL_VARIABLE": "URLS",
        "RETRAINER_NOTIFICATIONS__APPRISE__EVENTS": "[promotion]",
    }
    assert retrainer("train", "timing", env=environ).code == 0
    (one,) = receiver.received
    assert (
        one.json["title"]
        == f"retrainer: The timing model has a new version in production: {_version(one.json['title'])}"
    )
    assert "First timing model" in one.json["message"]
    for urls, words in (
        (f"json://127.0.0.1:9/{TOKEN}", "JSON at '127.0.0.1': not accepted"),
        (f"nonsense://{TOKEN}", "it does not support one of the URLs"),
    ):
        done = retrainer("notify-test", "--verbose", env={**environ, "URLS": urls})
        assert (done.code, done.out) == (1, f"Apprise: {words}\n")
        assert TOKEN not in done.err
    (plugins.site / "apprise.py").write_text("raise ImportError('not here')\n")
    done = retrainer("notify-test", env={**environ, **plugins.environ})
    assert done.out == "Apprise: not installed. Install it with: pip install 'retrainer[notify]'\n"


def test_a_message_is_plain_text_to_every_channel(receiver: Receiver) -> None:
    hostile = "<a href='http://x'>y</a> <!channel> \udcff\x1b[2J\u202e\nz"
    settings = NotificationSettings.model_validate(
        {"webhook": {"url_variable": "HOOK"}, "apprise": {"url_variable": "URLS"}}
    )
    html = f"{receiver.url.replace('http', 'json')}/?format=html"  # what mail and Telegram are sent
    message = message_of({"kind": "failure", "reason": hostile, "stream": hostile, "model_type": "timing"}, hostile)
    assert message is not None
    assert Notifier(settings, {"HOOK": f"{receiver.url}/hook", "URLS": html}, "p").send(message) == {}
    by_path = {one.path: one.json for one in receiver.received}
    assert by_path["/hook"]["reason"] == hostile
    assert "<!channel> \\udcff\\x1b[2J\\u202e\\nz" in by_path["/hook"]["text"]
    assert "&lt;!channel&gt;&nbsp;\\udcff\\x1b[2J\\u202e\\nz" in by_path["/"]["message"].replace(" ", "&nbsp;")
    assert not re.search(r"<(a|!)|[\x1b\u202e]", by_path["/"]["message"])


@pytest.mark.slow
def test_apprise_retries_as_its_url_says(with_posts: Path, receiver: Receiver, retrainer: Runner) -> None:
    receiver.answers = [500]
    url = f"{receiver.url.replace('http', 'json')}/?retry=1&wait=0"
    done = retrainer("notify-test", URLS=url, RETRAINER_NOTIFICATIONS__APPRISE__URL_VARIABLE="URLS")
    assert (done.code, done.out) == (0, "Apprise: sent\n")
    assert len(receiver.received) == 2


@pytest.fixture
def _libraries_are_loaded(with_posts: Path, receiver: Receiver, retrainer: Runner) -> None:
    """Load what a first delivery loads, which may take longer than the tests that follow wait."""
    environ = {
        "URLS": f"{receiver.url.replace('http', 'json')}/",
        "RETRAINER_NOTIFICATIONS__APPRISE__URL_VARIABLE": "URLS",
        "HOOK": receiver.url,
        "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
    }
    assert retrainer("notify-test", env=environ).code == 0


@pytest.mark.usefixtures("_libraries_are_loaded")
def test_a_service_that_hangs_is_named_and_does_not_delay_the_exit(
    with_posts: Path, receiver: Receiver, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "TEST_SECONDS", 0.5)
    monkeypatch.setattr(delivery, "GRACE_SECONDS", 60)  # on a busy machine, to say which service it is
    receiver.answers = ["drip"]
    url = f"{receiver.url.replace('http', 'json')}/{TOKEN}"
    done = retrainer("notify-test", URLS=f"{url} {url}", RETRAINER_NOTIFICATIONS__APPRISE__URL_VARIABLE="URLS")
    assert (done.code, TOKEN in done.err) == (1, False)
    assert done.out.startswith("Apprise: JSON at '127.0.0.1'")
    assert done.out.endswith(": no answer within 0.5 s\n")
    hanging = [thread for thread in threading.enumerate() if thread.name.startswith("delivery to JSON")]
    assert {thread.daemon for thread in hanging} == {True}


def _version(text: str) -> str:
    return next(word for word in text.split() if word.startswith("baseline_timing_"))


@pytest.fixture
def healthcheck(with_posts: Path, receiver: Receiver) -> dict[str, str]:
    return {
        "PING": f"{receiver.url}/{TOKEN}",
        "RETRAINER_NOTIFICATIONS__HEALTHCHECK__URL_VARIABLE": "PING",
        "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "60",
    }


def test_a_healthcheck_is_pinged_at_start_and_end_with_the_last_log_lines(
    healthcheck: dict[str, str], receiver: Receiver, retrainer: Runner
) -> None:
    assert retrainer("train", "timing", env=healthcheck).code == 0
    assert [one.path for one in receiver.received] == [f"/{TOKEN}/start", f"/{TOKEN}"]
    assert "TIMING MODEL RETRAINING COMPLETE" in receiver.received[1].raw.decode()
    assert retrainer("train", "timing", "--if-due", env=healthcheck).err == ""
    assert [one.path for one in receiver.received][2:] == [f"/{TOKEN}/start", f"/{TOKEN}"], (
        "cron lives, nothing was due"
    )
    few = {**healthcheck, "RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES": "5000"}
    assert retrainer("train", "timing", env=few).code == 3
    assert [one.path for one in receiver.received][4:] == [f"/{TOKEN}/start", f"/{TOKEN}/fail"]
    assert "Insufficient data for training" in receiver.received[5].raw.decode()
    assert (
        retrainer("train", "timing", env={**healthcheck, "RETRAINER_DATABASE__URL": "sqlite:////dev/null/x"}).code == 1
    )
    assert receiver.received[-1].path.endswith("/fail")
    retrainer("history", env=healthcheck)
    retrainer("train", "timing", "--dry-run", env=healthcheck)
    assert len(receiver.received) == 8


@pytest.mark.slow
def test_an_unreachable_healthcheck_is_a_warning(healthcheck: dict[str, str], retrainer: Runner) -> None:
    unreachable = {"PING": f"http://127.0.0.1:9/{TOKEN}", "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "1"}
    done = retrainer("train", "timing", env={**healthcheck, **unreachable})
    assert done.code == 0
    assert "The healthcheck was not notified of the start: no answer" in done.err
    assert TOKEN not in done.err


@pytest.mark.slow
def test_an_interrupted_run_is_notified_as_failed(
    healthcheck: dict[str, str], receiver: Receiver, plugins: Plugins, folder: Path
) -> None:
    started = folder / "started"
    plugins.add("slow", timing_algorithm("slow", train=f"import time; Path({str(started)!r}).touch(); time.sleep(600)"))
    process = subprocess.Popen(
        [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "slow"],
        cwd=folder,
        env={**os.environ, **healthcheck, **plugins.environ},
        stderr=subprocess.PIPE,
    )
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode == 130
    assert receiver.received[-1].path == f"/{TOKEN}/fail"


@pytest.mark.slow
def test_a_killed_run_is_notified_by_the_next_call_of_train(
    webhook: dict[str, str], receiver: Receiver, folder: Path, retrainer: Runner
) -> None:
    code = (
        "import os; from pathlib import Path; from tests.conftest import NOW, Project;"
        f"project = Project.find(Path({str(folder)!r}), {{}});"
        "project.registry.start_run('timing', 'baseline', NOW, None); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert retrainer("history", env=webhook).code == 0
    assert receiver.received == [], "looking sends nothing"
    retrainer("train", "timing", env=webhook)
    assert "The run was interrupted: its process" in receiver.received[0].json["text"]
    count = len(receiver.received)
    retrainer("train", "timing", "--if-due", env=webhook)
    assert "The run was interrupted: its process" not in "".join(one.json["text"] for one in receiver.received[count:])


@pytest.mark.usefixtures("_libraries_are_loaded")
def test_notify_test_names_the_host_that_does_not_answer(
    webhook: dict[str, str],
    healthcheck: dict[str, str],
    receiver: Receiver,
    retrainer: Runner,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for seconds, however long a run may wait."""
    monkeypatch.setattr(notifier, "TEST_SECONDS", 0.5)
    monkeypatch.setattr(delivery, "GRACE_SECONDS", 60)  # on a busy machine, to say why
    receiver.answers = ["hang"] * 10
    environ = {
        **webhook,
        **healthcheck,
        "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "600",
        "PING": f"http://localhost:9/{TOKEN}",
        "URLS": f"json://127.0.0.1:9/{TOKEN} slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?cto=0.1",
        "RETRAINER_NOTIFICATIONS__APPRISE__URL_VARIABLE": "URLS",
    }
    done = retrainer("notify-test", env=environ)
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "The webhook: no answer from '127.0.0.1' (ReadTimeout)"
    assert lines[1].startswith("Apprise: JSON at '127.0.0.1': ")
    assert "; Slack: " in lines[1]
    assert lines[2] == "The healthcheck: no answer from 'localhost' (ConnectError)"
    assert "T1JJ3T3L2" not in done.out + done.err, "a token in the place of a host"
    monkeypatch.setattr(delivery, "GRACE_SECONDS", 0.5)
    receiver.answers = ["drip"] * 10
    dripping = retrainer("notify-test", env={**webhook, "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "600"})
    assert dripping.out.startswith("The webhook: no answer from '127.0.0.1' ")


def test_notify_test_says_that_no_channel_is_configured(folder: Path, retrainer: Runner) -> None:
    done = retrainer("notify-test")
    assert (done.code, done.out) == (0, "No notification channels configured\n")


def test_a_promoted_run_is_notified_once() -> None:
    run = {"status": "completed", "promoted_to_production": True}
    assert message_of({"kind": "run", "model_type": "timing", "run": run}, "p") is None


def test_a_message_names_the_stream_unless_it_is_the_default_one() -> None:
    event = {"kind": "promotion", "model_type": "timing", "version_id": "v", "stream": "default"}
    message = message_of(event, "p")
    assert message is not None
    assert message.title == "retrainer: The timing model has a new version in production: v"
    for name, shown in {"news": "news", "a\u2028b": "a b", "x" * 200: f"{'x' * 59}…"}.items():
        message = message_of({**event, "stream": name}, "p")
        assert message is not None
        assert (
            message.title == f"retrainer: The timing model of the stream '{shown}' has a new version in production: v"
        )
        assert message.document["stream"] == name
    stale = message_of({"kind": "stale_posts", "stream": "news"}, "p")
    assert stale is not None
    assert stale.text.startswith("Posts of the stream 'news' have stopped arriving (project 'p' on ")


def test_deliveries_are_concurrent_and_library_errors_are_not_repeated() -> None:
    def broken() -> None:
        raise ValueError(TOKEN)

    def refused() -> None:
        raise NotDelivered("no")

    assert deliver({"a": broken, "b": refused, "c": lambda: None}, 5) == {"a": "unexpected ValueError", "b": "no"}


def test_a_ping_keeps_the_query_of_its_url(receiver: Receiver) -> None:
    post(f"{receiver.url}/a/?key=1", b"", {}, 5, path_suffix="/start")
    assert receiver.received[0].path == "/a/start?key=1"


def test_settings_name_environment_variables(with_posts: Path, receiver: Receiver, retrainer: Runner) -> None:
    configure(with_posts, secret_variable="HOOK_KEY")  # noqa: S106  a name
    assert retrainer("versions").code == 0


def test_a_wrong_proxy_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://u:secret@127.0.0.1:1")
    with pytest.raises(NotDelivered, match="HTTPS_PROXY") as caught:
        post("https://127.0.0.1:1", b"", {}, 1)
    assert "secret" not in str(caught.value)
