"""Pauses: silences that nothing before them foretells, such as a holiday, an illness, the end of an account.

A gap is a pause with a small probability, and then lasts by a power law whatever the hazard is. Right after a post that
changes little. In a silence that the hazard would have ended long ago, a pause is the only explanation left, and the
longer it has lasted, the longer it will last: by Bayes' rule, without a threshold. Without pauses, the forecast in a
silence longer than any before is a post within hours, every hour again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from retrainer_prophet.time_grid import Floats

_SHARE = 0.002  # of the gaps
_EXPONENT = 2.0  # of the power law
_SCALE_LEVEL = 0.95  # of the gaps; half of the pauses are longer than 0.41 times this quantile


def pause_scale(gaps: Floats) -> float:
    """Return the scale in hours of the pauses of a stream with these gaps."""
    return float(np.quantile(gaps, _SCALE_LEVEL))


def pause_survival(hours: Floats, scale: float) -> Floats:
    """Return (n,) the logarithm of the probability that a pause lasts longer than (n,) hours since the last post.

    Args:
        hours: (n,) since the last post.
        scale: see `pause_scale`.
    """
    survival: Floats = -_EXPONENT * np.log1p(hours / scale)  # Lomax 1954
    return survival


def hazard_with_pauses(hazard: Floats, survival: Floats) -> Floats:
    """Return (n,) the cumulative hazard of the mixture: minus the logarithm of its survival.

    Args:
        hazard: (n,) the cumulative hazard without pauses.
        survival: (n,) see `pause_survival`.
    """
    mixture: Floats = -np.logaddexp(np.log1p(-_SHARE) - hazard, np.log(_SHARE) + survival)
    return mixture
