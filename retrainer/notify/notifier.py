"""The built-in observer: it sends what happened to those whom the settings name."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from retrainer import __version__, logs
from retrainer.algorithms import hookimpl
from retrainer.notify.delivery import NotDelivered, deliver, post
from retrainer.notify.messages import Message, message_of, test_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from retrainer.config import NotificationSettings

log = logging.getLogger(__name__)

START_SECONDS = 10  # a run does not wait longer to begin
MOST_BODY_BYTES = 10_000
_SHORTEST_SECRET_PATH = 12
_HEADERS = {"User-Agent": f"retrainer/{__version__}"}


class Notifier:
    """Sends messages to a webhook and through apprise, and pings a healthcheck."""

    def __init__(self, settings: NotificationSettings, environ: Mapping[str, str], project: str) -> None:
        self._settings = settings
        self._project = project
        self._webhook = _secret(environ, settings.webhook.url_variable)
        self._key = _secret(environ, settings.webhook.secret_variable)
        self._apprise = _secret(environ, settings.apprise.url_variable)
        self._healthcheck = _secret(environ, settings.healthcheck.url_variable)

    @hookimpl
    def on_event(self, event: Mapping[str, Any]) -> None:
        """Tell of an event all that have chosen it."""
        if event.get("kind") == "end":  # the process ends without coming back to its command
            self.ping("fail")
            return
        message = message_of(event, self._project)
        if message is not None:
            for name, problem in self.send(message).items():
                log.warning("%s was not told of the %s: %s", name, str(message.event).replace("_", " "), problem)

    def test(self) -> dict[str, str | None]:
        """Send a test message to all that are configured; return why not, or None, for each."""
        message = test_message(self._project)
        names = list(self._jobs(message))
        problems = self.send(message)
        if self._settings.healthcheck.url_variable is not None:
            names.append("The healthcheck")
            problems |= deliver({"The healthcheck": partial(self._ping, "")}, self._settings.timeout_seconds)
        return {name: problems.get(name) for name in names}

    def send(self, message: Message) -> dict[str, str]:
        """Send a message to all that have chosen its event; return why, for each that did not get it."""
        jobs = self._jobs(message)
        return deliver(jobs, self._settings.timeout_seconds) if jobs else {}

    def ping(self, what: Literal["start", "success", "fail"]) -> None:
        """Ping the healthcheck, if there is one; at the end with the last lines of the log."""
        if self._settings.healthcheck.url_variable is None:
            return
        limit = (
            min(START_SECONDS, self._settings.timeout_seconds) if what == "start" else self._settings.timeout_seconds
        )
        for problem in deliver({what: partial(self._ping, what)}, limit).values():
            log.warning("The healthcheck was not told of the %s: %s", what, problem)

    def _jobs(self, message: Message) -> dict[str, Callable[[], None]]:
        jobs: dict[str, Callable[[], None]] = {}
        webhook, apprise = self._settings.webhook, self._settings.apprise
        if webhook.url_variable is not None and message.event in {None, *webhook.events}:
            jobs["The webhook"] = partial(self._post, message)
        if apprise.url_variable is not None and message.event in {None, *apprise.events}:
            jobs["Apprise"] = partial(self._tell, message)
        return jobs

    def _post(self, message: Message) -> None:
        url = _required(self._webhook, self._settings.webhook.url_variable)
        body = json.dumps(message.document, ensure_ascii=False).encode()
        headers = {**_HEADERS, "Content-Type": "application/json", "X-Retrainer-Event": message.document["event"]}
        if self._settings.webhook.secret_variable is not None:
            key = _required(self._key, self._settings.webhook.secret_variable)
            headers["X-Retrainer-Signature"] = f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"
        post(url, body, headers, self._settings.timeout_seconds)

    def _tell(self, message: Message) -> None:
        urls = _required(self._apprise, self._settings.apprise.url_variable)
        # Its warnings to its own developers are not the user's, even where warnings are made errors.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"apprise(\.|$)")
        try:
            import apprise  # noqa: PLC0415  an extra, and slow to import
        except ImportError:
            raise NotDelivered("it is not installed: pip install 'retrainer[notify]'") from None
        for name in ("apprise", "urllib3", "requests"):  # their own words may hold the URL
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        sender = apprise.Apprise()
        for url in urls.split():
            if not sender.add(url):
                raise NotDelivered("one of its URLs is none that it knows")
        kinds = {"failure": apprise.NotifyType.FAILURE, "promotion": apprise.NotifyType.SUCCESS}
        kind = kinds.get(str(message.event), apprise.NotifyType.INFO)
        if not sender.notify(title=message.title, body=message.text, notify_type=kind):
            raise NotDelivered("one of its services did not take it")

    def _ping(self, what: str) -> None:
        url = _required(self._healthcheck, self._settings.healthcheck.url_variable)
        body = "" if what == "start" else "\n".join(logs.recent_lines())
        below = f"/{what}" if what in {"start", "fail"} else ""
        headers = {**_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
        post(url, body.encode()[-MOST_BODY_BYTES:], headers, self._settings.timeout_seconds, below=below)


def _secret(environ: Mapping[str, str], variable: str | None) -> str | None:
    """Return what a variable holds, and keep it out of the log from now on."""
    value = environ.get(variable, "").strip() if variable else ""
    if not value:
        return None
    logs.hide(value)
    for url in value.split():
        path = _path(url)
        if len(path) >= _SHORTEST_SECRET_PATH:  # a shorter one could be any word of an innocent line
            logs.hide(path)
    return value


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # no URL
        return ""


def _required(value: str | None, variable: str | None) -> str:
    if value is None:
        raise NotDelivered(f"the environment has no {variable}")
    return value
