"""The options that choose the workers: processes of this machine, or those of a cluster."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from retrainer.cli.options import choice
from retrainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.parallel.cluster import Cluster

BackendName = Literal["local", "dask", "ray"]

BackendOption = Annotated[
    BackendName | None,
    typer.Option(
        "--backend",
        metavar="local|dask|ray",
        parser=choice("local", "dask", "ray"),
        autocompletion=lambda: ["local", "dask", "ray"],
        help="Where the workers run: on this machine, or on a cluster. By default, local.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="With --backend dask: the scheduler, such as HOST:8786."),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="With --backend ray: the cluster, such as HOST:6379."),
]


@dataclass(frozen=True)
class WorkerOptions:
    """The options that choose the workers."""

    backend: BackendName | None
    scheduler: str | None
    address: str | None

    def validate(self, jobs: int | None) -> None:
        """Check that the options fit together.

        Raises:
            UsageError: they do not.
        """
        for backend, option, value in (("dask", "--scheduler", self.scheduler), ("ray", "--address", self.address)):
            if value is not None and self.backend != backend:
                raise UsageError(f"{option} requires --backend {backend}", hint=f"Add --backend {backend}, or omit it")
            if value is None and self.backend == backend:
                raise UsageError(
                    f"--backend {backend} needs an address", hint=f"Name the cluster with {option} ADDRESS"
                )
        if jobs is not None and self.backend in {"dask", "ray"}:
            raise UsageError(
                f"--jobs requires --backend local: the {self.backend.capitalize()} cluster has its own workers",
                hint="Omit one",
            )

    @contextmanager
    def connect(self) -> Iterator[Cluster[Any] | None]:
        """Connect to the cluster for the block; None for processes of this machine.

        Raises:
            UsageError: the library is not installed.
            RetrainerError: the cluster does not answer.
        """
        if self.scheduler is not None:
            from retrainer.parallel.dask import DaskCluster  # noqa: PLC0415

            with closing(DaskCluster.connect(self.scheduler)) as cluster:
                yield cluster
        elif self.address is not None:
            from retrainer.parallel.ray import RayCluster  # noqa: PLC0415

            with closing(RayCluster.connect(self.address)) as ray_cluster:
                yield ray_cluster
        else:
            yield None
