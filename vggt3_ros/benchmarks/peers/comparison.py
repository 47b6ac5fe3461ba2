"""All contenders on one data set, one after the other -> a row each."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vggt3_ros.benchmarks.peers.contenders import Contender
from vggt3_ros.benchmarks.peers.given import Given, Progress
from vggt3_ros.benchmarks.peers.preparing import Truth
from vggt3_ros.benchmarks.peers.running import LOG_FILE, run
from vggt3_ros.benchmarks.peers.scoring import score


def rows(
    given: Given,
    truth: Truth,
    contenders: list[Contender],
    folder: Path,
    limit_seconds: float,
    progress: Progress = lambda text, part: None,
    logs: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the row (dict of figures, see scoring.score) of each Contender as it ends. One that
    fails, or takes longer than the limit, has "failure" in its row, and the next one runs. What a
    contender wrote on disk is deleted, but for its log, which goes to the folder `logs`.
    """
    for contender in contenders:
        place = folder / contender.name
        done = run(
            contender,
            given.folder,
            truth.file if contender.knows_poses else None,
            place,
            limit_seconds,
            partial(progress, contender.name),
        )
        row: dict[str, Any] = {
            "sequence": given.name,
            "contender": contender.name,
            "title": contender.title,
            "knows_poses": contender.knows_poses,
            "process_seconds": done.process_seconds,
            "peak_memory_mb": done.peak_memory_mb,
        }
        if done.outcome is None:
            row["failure"] = done.failure
        else:
            try:
                row |= score(done.outcome, truth, contender.knows_poses)
            except (ValueError, IndexError) as error:
                row["failure"] = f"its outcome cannot be scored: {error}"
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
            shutil.copy(place / LOG_FILE, logs / f"{given.name}-{contender.name}.log")
        shutil.rmtree(place)
        yield row
