"""Checks before the first call: credentials, the model, its price."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from anthropic import Anthropic, AnthropicError, DefaultHttpxClient
from anthropic.resources.messages import DEPRECATED_MODELS
from httpx2 import URL, InvalidURL

from retrainer.errors import ConfigError, MissingCredentials
from retrainer.http_environment import name_wrong_variable, ssl_context

if TYPE_CHECKING:
    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

BASE_URL = "ANTHROPIC_BASE_URL"
SECRET_HEADERS = ("authorization", "x-api-key")
CREDENTIALS_HINT = (
    "Set ANTHROPIC_API_KEY, or use ANTHROPIC_AUTH_TOKEN, a profile in ~/.config/anthropic or workload identity"
)
ALTERNATIVE_HINT = "Without a key, use content_model.algorithm: baseline, or retraining.content_model.enabled: false"


def check_environment() -> None:
    """Check the environment variables that say how to reach the Claude API.

    Raises:
        ConfigError: one of them is wrong.
    """
    with name_wrong_variable():
        DefaultHttpxClient(verify=ssl_context()).close()
    base_url = os.environ.get(BASE_URL)
    try:
        target = URL(base_url or "https://api.anthropic.com")
        is_usable = target.scheme in {"http", "https"} and bool(target.host)
    except InvalidURL:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"the environment variable {BASE_URL} does not hold an http or https URL",
            hint=f"Write it like https://api.example.com, or remove {BASE_URL}",
        )


def require_credentials() -> None:
    """Check that the SDK finds credentials that can be sent, without network.

    Raises:
        MissingCredentials: it finds none, or they cannot be used.
    """
    try:
        with Anthropic(http_client=DefaultHttpxClient(verify=ssl_context())) as client:
            headers = {name.lower(): value for name, value in client.default_headers.items()}
            has_provider = client.credentials is not None
    except AnthropicError as error:
        raise unusable_credentials(error) from None
    secrets = [str(headers[name]) for name in SECRET_HEADERS if headers.get(name)]
    if not secrets and not has_provider:
        raise MissingCredentials(
            "no credentials for the Claude API were found", hint=f"{CREDENTIALS_HINT}. {ALTERNATIVE_HINT}"
        )
    if not all(secret.isascii() and secret.isprintable() and secret == secret.strip() for secret in secrets):
        # The HTTP library would quote the key in its own error.
        raise MissingCredentials(
            "the credentials for the Claude API contain a character that cannot be sent, such as a line break",
            hint="Set ANTHROPIC_API_KEY again",
        )


def unusable_credentials(error: AnthropicError) -> MissingCredentials:
    """Return the error for credentials that cannot be read or exchanged; the SDK's messages contain no secrets."""
    return MissingCredentials(f"the credentials for the Claude API cannot be used: {error}", hint=CREDENTIALS_HINT)


def check_model(options: ClaudeOptions) -> None:
    """Warn about a model that is deprecated or has no price.

    Raises:
        ConfigError: `max_cost` is set for a model without a price.
    """
    if options.model in DEPRECATED_MODELS:
        log.warning(
            "The model '%s' is deprecated and will be retired on %s: choose another",
            options.model,
            DEPRECATED_MODELS[options.model],
        )
    if options.model in options.prices:
        return
    if options.max_cost is not None:
        raise ConfigError(
            f"content_model.claude_api.max_cost is set, but the model '{options.model}' has no price",
            hint="Add it to content_model.claude_api.prices, or limit max_calls instead",
        )
    log.warning("No price is set for the model '%s': its cost counts as 0", options.model)
