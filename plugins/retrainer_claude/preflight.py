"""What can be known before the first call: whether there are credentials, and whether the model is in use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from anthropic import Anthropic, AnthropicError
from anthropic.resources.messages import DEPRECATED_MODELS

from retrainer.errors import ConfigError, MissingCredentials

if TYPE_CHECKING:
    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

SECRET_HEADERS = ("authorization", "x-api-key")
HINT = (
    "Set ANTHROPIC_API_KEY; ANTHROPIC_AUTH_TOKEN, a profile in ~/.config/anthropic and workload identity serve as well"
)


def require_credentials() -> None:
    """Let the SDK look for credentials as it does for a call, without network, and check what it found.

    Raises:
        MissingCredentials: it found none, or what it found cannot be used.
    """
    try:
        with Anthropic() as client:
            headers = {name.lower(): value for name, value in client.default_headers.items()}
            has_provider = client.credentials is not None
    except AnthropicError as error:
        raise unusable_credentials(error) from None
    secrets = [headers[name] for name in SECRET_HEADERS if headers.get(name)]
    if not secrets and not has_provider:
        raise MissingCredentials("no credentials for the Claude API are found", hint=HINT)
    if not all(isinstance(secret, str) and _can_be_sent(secret) for secret in secrets):
        # Sent all the same, the HTTP library would quote the key in its own error.
        raise MissingCredentials(
            "the credentials for the Claude API hold a character that cannot be sent, such as a line break",
            hint="Set ANTHROPIC_API_KEY anew",
        )


def unusable_credentials(error: AnthropicError) -> MissingCredentials:
    """Explain that credentials cannot be read or exchanged; the SDK keeps secrets out of its own words."""
    return MissingCredentials(f"the credentials for the Claude API cannot be used: {error}", hint=HINT)


def require_price(options: ClaudeOptions) -> None:
    """Check that a limit of the cost can be kept.

    Raises:
        ConfigError: `max_cost` is set for a model without a price.
    """
    if options.max_cost is not None and options.model not in options.prices:
        raise ConfigError(
            f"content_model.claude_api.max_cost is set, but no price of the model '{options.model}'",
            hint="Set content_model.claude_api.prices for it, or limit max_calls instead",
        )


def warn_of_model(options: ClaudeOptions) -> None:
    """Warn of a model that is being retired, and of one whose price is not known."""
    if options.model in DEPRECATED_MODELS:
        log.warning(
            "The model '%s' is deprecated and is retired on %s: choose another",
            options.model,
            DEPRECATED_MODELS[options.model],
        )
    if options.model not in options.prices:
        log.warning("No price is set for the model '%s': its cost is counted as 0", options.model)


def _can_be_sent(secret: str) -> bool:
    return secret.isascii() and secret.isprintable() and secret == secret.strip()
