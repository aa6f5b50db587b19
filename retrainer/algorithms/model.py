"""A trained model that can forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins
    from retrainer.model_types.likelihood import Likelihoods


NOT_DETERMINISTIC = "is not deterministic: seed all randomness, and change neither model nor options in predict"


@dataclass(frozen=True)
class TrainedModel:
    """A model together with its algorithm and the options it was trained with.

    Attributes:
        algorithm: the algorithm that trained it.
        options: the algorithm's options.
        model: what the algorithm's `load` returned.
        model_type: `timing` or `content`.
        embedding_model: the folder or package of the model that embeds its texts for scoring; None for no embeddings.
    """

    algorithm: LoadedAlgorithm
    options: BaseModel
    model: Any
    model_type: ModelTypeName
    embedding_model: str | None = None

    def predict(
        self,
        posts: pd.DataFrame,
        origins: Origins,
        budget: Budget | None = None,
        without: frozenset[str] = frozenset(),
        state: bytes | None = None,
    ) -> Any:
        """Return one forecast per origin, within a budget; None for a budget of its own.

        Args:
            without: the names of the parts of the context to leave out.
            state: what `condense` returned for the posts up to the first of `posts`; None if `posts` are all.
        """
        return self.algorithm.predict(self.model, posts, origins, self.options, self.model_type, budget, without, state)

    def condense(self, posts: pd.DataFrame, state: bytes | None = None) -> tuple[bytes, int] | None:
        """Return the state after the last of some posts, and for how many posts it will do; None if there is none."""
        return self.algorithm.condense(self.model, posts, self.options, self.model_type, state)

    def likelihood(self, posts: pd.DataFrame, origins: Origins, texts: Sequence[str]) -> Likelihoods | None:
        """Return the log-likelihood of each text as the next post after its origin; None if the algorithm has none."""
        return self.algorithm.likelihood(self.model, posts, origins, texts, self.options)

    def simulate(
        self,
        posts: pd.DataFrame,
        origins: Origins,
        *,
        horizon_hours: float,
        max_posts: int,
        paths: int,
        seed: int = 0,
        state: bytes | None = None,
    ) -> NDArray[np.float64]:
        """Return (paths, k) hours from the one origin to the posts of simulated futures; see the hook `simulate`."""
        return self.algorithm.simulate(
            self.model,
            posts,
            origins,
            self.options,
            horizon_hours=horizon_hours,
            max_posts=max_posts,
            paths=paths,
            seed=seed,
            state=state,
        )
