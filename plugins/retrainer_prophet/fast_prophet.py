"""Prophet with the same results in a third of the time.

On 373 posts, Prophet and CmdStanPy take longer to write the data as text, to read the result and to name columns than
Stan takes to fit the model. Importing this module imports Prophet, which logs.
"""

from __future__ import annotations

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

_matrices: dict[tuple[str, ...], Any] = {}


class FastProphet(Prophet):
    """Prophet with faster ways to run Stan and to find the columns of each component."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        backend: Any = self.stan_backend
        self._stan_program = backend.model.exe_file
        self._fit_by_cmdstanpy = backend.fit
        backend.fit = self._fit_by_stan

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
        columns = tuple(seasonal_features.columns)
        if columns not in _matrices:
            _matrices[columns] = super().regressor_column_matrix(seasonal_features, modes)
        return _matrices[columns]

    def _fit_by_stan(self, init: dict[str, Any], data: dict[str, Any], *, seed: int) -> dict[str, Any]:
        """Return the parameters, except the trend of each row, which Prophet computes itself."""
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


def _json(values: dict[str, Any]) -> bytes:
    arrays = {name: value if np.ndim(value) == 0 else np.ascontiguousarray(value) for name, value in values.items()}
    return orjson.dumps(arrays, option=orjson.OPT_SERIALIZE_NUMPY)
