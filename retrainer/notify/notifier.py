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
            for name, problem in self.send(message).items():
                log.warning("%s was not notified of the %s: %s", name, str(message.event).replace("_", " "), problem)

    def test(self) -> dict[str, str | None]:
        """Send a test message to all configured channels; return the problem of each, None without one."""
        message = test_message(self._project)
        names = list(self._deliveries(message))
        problems = self.send(message)
        if self._settings.healthcheck.url_variable is not None:
            names.append("The healthcheck")
            problems |= deliver({"The healthcheck": partial(self._post_ping, "")}, self._settings.timeout_seconds)
        return {name: problems.get(name) for name in names}

    def send(self, message: Message) -> dict[str, str]:
        """Send a message to the channels that selected its event; return the problem of each that did not get it."""
        deliveries = self._deliveries(message)
        return deliver(deliveries, self._settings.timeout_seconds) if deliveries else {}

    def ping(self, signal: Literal["start", "success", "fail"]) -> None:
        """Ping the healthcheck, if one is configured; at the end of a run with the last lines of the log."""
        if self._settings.healthcheck.url_variable is None:
            return
        limit = self._settings.timeout_seconds
        if signal == "start":
            limit = min(START_SECONDS, limit)
        for problem in deliver({signal: partial(self._post_ping, signal)}, limit).values():
            log.warning("The healthcheck was not notified of the %s: %s", signal, problem)

    def _deliveries(self, message: Message) -> dict[str, Callable[[], None]]:
        deliveries: dict[str, Callable[[], None]] = {}
        webhook, apprise = self._settings.webhook, self._settings.apprise
        if webhook.url_variable is not None and message.event in {None, *webhook.events}:
            deliveries["The webhook"] = partial(self._post_webhook, message)
        if apprise.url_variable is not None and message.event in {None, *apprise.events}:
            deliveries["Apprise"] = partial(self._send_apprise, message)
        return deliveries

    def _post_webhook(self, message: Message) -> None:
        url = _require(self._webhook, self._settings.webhook.url_variable)
        body = json.dumps(message.document, ensure_ascii=False).encode()
        headers = {**_HEADERS, "Content-Type": "application/json", "X-Retrainer-Event": message.document["event"]}
        if self._settings.webhook.secret_variable is not None:
            key = _require(self._key, self._settings.webhook.secret_variable)
            headers["X-Retrainer-Signature"] = f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"
        post(url, body, headers, self._settings.timeout_seconds)

    def _send_apprise(self, message: Message) -> None:
        urls = _require(self._apprise, self._settings.apprise.url_variable)
        # Its deprecation warnings are for its own developers, even where warnings are turned into errors.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"apprise(\.|$)")
        try:
            import apprise  # noqa: PLC0415  an extra, and slow to import
        except ImportError:
            raise NotDelivered("not installed. Install it with: pip install 'retrainer[notify]'") from None
        for name in ("apprise", "urllib3", "requests"):  # their log messages may contain the URL
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        sender = apprise.Apprise()
        for url in urls.split():
            if not sender.add(url):
                raise NotDelivered("it does not support one of the URLs")
        types = {"failure": apprise.NotifyType.FAILURE, "promotion": apprise.NotifyType.SUCCESS}
        notify_type = types.get(str(message.event), apprise.NotifyType.INFO)
        if not sender.notify(title=message.title, body=message.text, notify_type=notify_type):
            raise NotDelivered("one of its services did not accept the message")

    def _post_ping(self, signal: str) -> None:
        url = _require(self._healthcheck, self._settings.healthcheck.url_variable)
        body = "" if signal == "start" else "\n".join(logs.recent_lines())
        suffix = f"/{signal}" if signal in {"start", "fail"} else ""
        headers = {**_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
        post(url, body.encode()[-MAX_PING_BYTES:], headers, self._settings.timeout_seconds, path_suffix=suffix)


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


def _require(value: str | None, variable: str | None) -> str:
    if value is None:
        raise NotDelivered(f"the environment variable {variable} is not set")
    return value
