"""Check a localization against the network's estimate: where to search again, or whether an answer
is wrong.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.memory.localizer import NOT_LOCALIZED, OK, Localization

# more than three times the published errors of query()
CONTRADICTION_M, CONTRADICTION_RAD = 1.0, 0.6


def reviewed(
    answer: Localization,
    policy: str,
    place: Callable[[], np.ndarray | None],
    localize_near: Callable[[np.ndarray], Localization],
) -> Localization:
    """Return the Localization after consulting the network according to `policy` (config
    network.second_opinion).

    place(): returns the network's T_map_cam (4, 4), or None. localize_near(T_map_cam): localizes
    from that start and verifies the result.
    """
    if (
        policy == "none"
        or answer.code not in (OK, NOT_LOCALIZED)
        or (answer.code == OK and policy != "all")
    ):
        return answer
    T_map_cam = place()
    if T_map_cam is None:
        return answer
    if answer.code == NOT_LOCALIZED:
        again = localize_near(T_map_cam)
        return (
            replace(again, seconds=answer.seconds + again.seconds) if again.code == OK else answer
        )
    assert answer.T_map_cam is not None  # its code is ok
    apart = se3.inverse(T_map_cam) @ answer.T_map_cam
    metres, radians = float(np.linalg.norm(apart[:3, 3])), float(se3.rotation_angle(apart))
    if metres <= CONTRADICTION_M and radians <= CONTRADICTION_RAD:
        return answer
    return Localization(
        NOT_LOCALIZED,
        f"the network places the image {metres:.1f} m and {np.degrees(radians):.0f} deg from the pose that "
        f"{answer.inliers} matches agree on",
        inliers=answer.inliers,
        generation=answer.generation,
        seconds=answer.seconds,
    )
