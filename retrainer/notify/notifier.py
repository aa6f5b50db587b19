"""The built-in observer, which sends messages to the configured channels."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from retrainer import __version__, logs, redaction
from retrainer.algorithms import hookimpl
from retrainer.notify.delivery import NotDelivered, deliver, post
from retrainer.notify.messages import Message, message_of, test_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from retrainer.config import NotificationSettings

log = logging.getLogger(__name__)

TEST_SECONDS = 5  # for all attempts of `notify-test`
START_SECONDS = 10  # the longest that a healthcheck may delay a run
MAX_PING_BYTES = 10_000
_MIN_SECRET_PATH = 12  # characters; a shorter path may be part of an innocent log line
_HEADERS = {"User-Agent": f"retrainer/{__version__}"}


class Notifier:
    """Sends messages to a webhook and through apprise, and pings a healthcheck."""

    def __init__(self, settings: NotificationSettings, environ: Mapping[str, str], project: str) -> None:
        self._settings = settings
        self._project = project
        self._webhook = _read_secret(environ, settings.webhook.url_variable)
        self._key = _read_secret(environ, settings.webhook.secret_variable)
        self._apprise = _read_secret(environ, settings.apprise.url_variable)
        self._healthcheck = _read_secret(environ, settings.healthcheck.url_variable)

    @hookimpl
    def on_event(self, event: Mapping[str, Any]) -> None:
        """Send a message about an event to the channels that selected it."""
        if event.get("kind") == "end":  # the process exits without returning to its command
            self.ping("fail")
            return
        message = message_of(event, self._project)
        if message is not None:
            what = "retraining of several streams" if message.event == "fleet" else str(message.event).replace("_", " ")
            for name, problem in self.send(message).items():
                log.warning("%s was not notified of the %s: %s", name, what, problem)

    def test(self) -> dict[str, str | None]:
        """Send a test message to all configured channels; return the problem of each, None without one.

        Someone waits for the result, so it allows less time than a run does.
        """
        limit = min(TEST_SECONDS, self._settings.timeout_seconds)
        deliveries = self._deliveries(test_message(self._project), limit)
        if self._settings.healthcheck.url_variable is not None:
            deliveries["The healthcheck"] = partial(self._post_ping, "", limit)
        problems = deliver(deliveries, limit, self._hosts())
        return {name: problems.get(name) for name in deliveries}

    def send(self, message: Message) -> dict[str, str]:
        """Send a message to the channels that selected its event; return the problem of each that did not get it."""
        limit = self._settings.timeout_seconds
        deliveries = self._deliveries(message, limit)
        return deliver(deliveries, limit, self._hosts())

    def ping(self, signal: Literal["start", "success", "fail"]) -> None:
        """Ping the healthcheck, if one is configured; at the end of a run with the last lines of the log."""
        if self._settings.healthcheck.url_variable is None:
            return
        limit = self._settings.timeout_seconds
        if signal == "start":
            limit = min(START_SECONDS, limit)
        for problem in deliver({signal: partial(self._post_ping, signal, limit)}, limit).values():
            log.warning("The healthcheck was not notified of the %s: %s", signal, problem)

    def _hosts(self) -> dict[str, str]:
        """Return the hosts of the channels; not of apprise, whose URLs may have a token in the place of a host."""
        urls = {"The webhook": self._webhook, "The healthcheck": self._healthcheck}
        return {name: host for name, url in urls.items() if url is not None and (host := _host(url))}

    def _deliveries(self, message: Message, limit: float) -> dict[str, Callable[[], None]]:
        deliveries: dict[str, Callable[[], None]] = {}
        webhook, apprise = self._settings.webhook, self._settings.apprise
        if webhook.url_variable is not None and message.is_for(webhook.events):
            deliveries["The webhook"] = partial(self._post_webhook, message, limit)
        if apprise.url_variable is not None and message.is_for(apprise.events):
            deliveries["Apprise"] = partial(self._send_apprise, message, limit)
        return deliveries

    def _post_webhook(self, message: Message, limit: float) -> None:
        url = _require(self._webhook, self._settings.webhook.url_variable)
        body = json.dumps(message.document, ensure_ascii=False).encode(errors="backslashreplace")  # an escape of JSON
        headers = {**_HEADERS, "Content-Type": "application/json", "X-Retrainer-Event": message.document["event"]}
        if self._settings.webhook.secret_variable is not None:
            key = _require(self._key, self._settings.webhook.secret_variable)
            headers["X-Retrainer-Signature"] = f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"
        post(url, body, headers, limit)

    def _send_apprise(self, message: Message, limit: float) -> None:
        urls = _require(self._apprise, self._settings.apprise.url_variable)
        # Its deprecation warnings are for its own developers, even where warnings are turned into errors.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"apprise(\.|$)")
        try:
            import apprise  # noqa: PLC0415  an extra, and slow to import
        except ImportError:
            raise NotDelivered("not installed. Install it with: pip install 'retrainer[notify]'") from None
        for name in ("apprise", "urllib3", "requests"):  # their log messages may contain the URL
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        types = {"failure": apprise.NotifyType.FAILURE, "promotion": apprise.NotifyType.SUCCESS}
        kind = "failure" if message.event == "fleet" and "failure" in message.selected_by else str(message.event)
        notify_type = types.get(kind, apprise.NotifyType.INFO)

        def send(sender: apprise.Apprise) -> None:
            # As plain text: a mail is HTML, and Slack has markup, which a name or an error could use.
            if not sender.notify(message.text, message.title, notify_type, body_format=apprise.NotifyFormat.TEXT):
                raise NotDelivered("not accepted")

        deliveries: dict[str, Callable[[], None]] = {}
        for url in urls.split():
            sender = apprise.Apprise()
            if not sender.add(url):
                raise NotDelivered("it does not support one of the URLs")
            name = ", ".join(map(_describe_service, sender.find()))
            count = sum(other.partition(" #")[0] == name for other in deliveries)
            deliveries[f"{name} #{count + 1}" if count else name] = partial(send, sender)
        problems = deliver(deliveries, limit, grace_seconds=0)
        if problems:
            raise NotDelivered("; ".join(f"{name}: {problems[name]}" for name in deliveries if name in problems))

    def _post_ping(self, signal: str, limit: float) -> None:
        url = _require(self._healthcheck, self._settings.healthcheck.url_variable)
        body = "" if signal == "start" else "\n".join(logs.recent_lines())
        suffix = f"/{signal}" if signal in {"start", "fail"} else ""
        headers = {**_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
        post(url, body.encode()[-MAX_PING_BYTES:], headers, limit, path_suffix=suffix)


def _read_secret(environ: Mapping[str, str], variable: str | None) -> str | None:
    """Return the value of a variable, and redact it in the log from now on."""
    value = environ.get(variable, "").strip() if variable else ""
    if not value:
        return None
    redaction.hide(value)
    for url in value.split():
        path = _path(url)
        if len(path) >= _MIN_SECRET_PATH:
            redaction.hide(path)
    return value


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # not a URL
        return ""


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # not a URL
        return None


def _describe_service(server: Any) -> str:
    """Return the name of a service of apprise, with its host where the URL has one, and no token in its place."""
    host = server.template_tokens.get("host")
    named = host is not None and not host.get("private") and server.host
    return f"{server.service_name} at '{server.host}'" if named else str(server.service_name)


def _require(value: str | None, variable: str | None) -> str:
    if value is None:
        raise NotDelivered(f"the environment variable {variable} is not set")
    return value
