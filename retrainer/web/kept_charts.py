"""Charts that are drawn once: a drawing takes longer than all else on a page."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from retrainer.render.charts.chart import Chart

MAX_CHARTS = 200


class KeptCharts:
    """The latest charts of a server, by what they show. A chart keeps its drawing."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, Chart | None] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Chart | None]) -> Chart | None:
        """Return the chart under a key, which names all that it shows."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > MAX_CHARTS:
                self._kept.popitem(last=False)
        return made


def draw_anew(_key: Hashable, make: Callable[[], Chart | None]) -> Chart | None:
    """Return a new chart, for what is made once."""
    return make()
