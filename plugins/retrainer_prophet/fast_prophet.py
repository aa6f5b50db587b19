"""Prophet with the same results in a fraction of the time.

On 373 posts, Prophet and CmdStanPy take longer to write the data as text, to read the result and to name columns than
Stan takes to fit the model. Without a trend, Stan is not needed at all: the model is a linear regression with normal
priors, whose posterior mode a few small systems of equations give. Importing this module imports Prophet, which logs.
"""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from prophet import Prophet

if TYPE_CHECKING:
    import pandas as pd

_EPOCH, _SECOND, _DAY_SECONDS = np.datetime64("1970-01-01"), np.timedelta64(1, "s"), 24 * 60 * 60
_OTHER_PARAMETERS = 4  # lp__, k, m, sigma_obs
_FLAT = 2  # Prophet's code of a constant trend
_OFFSET_SCALE, _NOISE_SCALE = 5.0, 0.5  # of the priors of m and sigma_obs in Prophet's model
_MAX_STEPS, _TOLERANCE = 100, 1e-13

_matrices: dict[tuple[str, ...], Any] = {}


class FastProphet(Prophet):
    """Prophet with faster ways to fit the model and to find the columns of each component."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        backend: Any = self.stan_backend
        self._stan_program = backend.model.exe_file
        self._fit_by_cmdstanpy = backend.fit
        backend.fit = self._fit

    @staticmethod
    def fourier_series(dates: pd.Series[Any], period: float, series_order: int) -> Any:
        """Return (n, 2 series_order) Fourier terms; with arrays instead of pandas."""
        turns = np.pi * 2 * ((dates.to_numpy() - _EPOCH) / _SECOND / _DAY_SECONDS)
        terms = np.empty((len(turns), 2 * series_order))
        for harmonic in range(series_order):
            angles = (harmonic + 1) / period * turns
            terms[:, 2 * harmonic], terms[:, 2 * harmonic + 1] = np.sin(angles), np.cos(angles)
        return terms

    def regressor_column_matrix(self, seasonal_features: pd.DataFrame, modes: Any) -> Any:
        """Return which columns belong to each component; without holidays, their names always give the same."""
        if self.train_holiday_names is not None:
            return super().regressor_column_matrix(seasonal_features, modes)
        columns = (*seasonal_features.columns, *modes["multiplicative"])
        if columns not in _matrices:
            _matrices[columns] = super().regressor_column_matrix(seasonal_features, modes)
        return _matrices[columns]

    def _fit(self, init: dict[str, Any], data: dict[str, Any], *, seed: int) -> dict[str, Any]:
        """Return the parameters, except the trend of each row, which Prophet computes itself."""
        is_regression = data["trend_indicator"] == _FLAT and not np.any(data["s_m"])
        return fit_regression(data) if is_regression else self._fit_by_stan(init, data, seed=seed)

    def _fit_by_stan(self, init: dict[str, Any], data: dict[str, Any], *, seed: int) -> dict[str, Any]:
        count = _OTHER_PARAMETERS + data["S"] + data["K"]
        with TemporaryDirectory(prefix="stan-") as folder:
            files = {name: Path(folder, name) for name in ("data.json", "init.json", "output.csv")}
            files["data.json"].write_bytes(_json(data))
            files["init.json"].write_bytes(_json(init))
            program = [self._stan_program, "random", f"seed={seed}"]
            program += ["data", f"file={files['data.json']}", f"init={files['init.json']}"]
            program += ["output", f"file={files['output.csv']}"]
            program += ["method=optimize", "algorithm=lbfgs", "iter=10000"]
            ended = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
            if ended.returncode != 0:  # CmdStanPy tries Newton's method, and reports what failed
                fitted: dict[str, Any] = self._fit_by_cmdstanpy(init, data, seed=seed)
                return fitted
            with files["output.csv"].open(encoding="ascii") as lines:
                names, values = (line.split(",", count)[:count] for line in lines if not line.startswith("#"))
        found: dict[str, list[float]] = {}
        for name, value in zip(names, values, strict=True):
            found.setdefault(name.split(".")[0], []).append(float(value))
        return {name: np.array([numbers]) for name, numbers in found.items()}


def fit_regression(data: dict[str, Any]) -> dict[str, Any]:
    """Return the posterior mode of Prophet's model without a trend and with additive components only.

    It is y ~ normal(m + X b, s) with the priors m ~ normal(0, 5), b ~ normal(0, sigmas) and s ~ normal(0, 0.5), s > 0.
    Given s, m and b are those of a ridge regression; given these, v = s² is the positive root of v² / 0.5² + n v = S,
    the sum of the squared residuals. Both in turn converge in a few steps, since the priors are weak. Stan's optimizer
    stops a little before the mode.

    Args:
        data: what Prophet hands to Stan.
    """
    columns, y = np.asarray(data["X"], dtype=float), np.asarray(data["y"], dtype=float)
    rows = np.column_stack([np.ones(len(y)), columns])
    precisions = np.concatenate([[_OFFSET_SCALE], np.asarray(data["sigmas"], dtype=float)]) ** -2
    products, moments = rows.T @ rows, rows.T @ y
    variance = float(y.var())
    for _ in range(_MAX_STEPS):
        found = np.linalg.solve(products + np.diag(variance * precisions), moments)
        squares = float(np.sum((y - rows @ found) ** 2))
        before, variance = variance, 2 * squares / (len(y) + math.sqrt(len(y) ** 2 + 4 * squares / _NOISE_SCALE**2))
        if abs(variance - before) <= _TOLERANCE * variance:
            break
    single = {"k": 0.0, "m": found[0], "sigma_obs": math.sqrt(variance)}
    parameters = {name: np.array([[value]]) for name, value in single.items()}
    return {**parameters, "delta": np.zeros((1, data["S"])), "beta": found[None, 1:]}


def _json(values: dict[str, Any]) -> bytes:
    arrays = {name: value if np.ndim(value) == 0 else np.ascontiguousarray(value) for name, value in values.items()}
    return orjson.dumps(arrays, option=orjson.OPT_SERIALIZE_NUMPY)
