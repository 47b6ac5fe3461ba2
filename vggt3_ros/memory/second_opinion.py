"""A second opinion on a localization, from where the network sees the image: where to look again,
or that an answer is wrong.
"""

from dataclasses import replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.memory.localizer import NOT_LOCALIZED, OK, Localization

# three times the published errors of query() and more
CONTRADICTION_M, CONTRADICTION_RAD = 1.0, 0.6


def reviewed(answer, policy, place, localize_near):
    """A Localization after the network was asked, as `policy` (config network.second_opinion)
    says.

    place() -> T_map_cam (4, 4) or None; localize_near(T_map_cam) -> Localization that starts there
    and verifies what it finds.
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
    apart = se3.inverse(T_map_cam) @ answer.T_map_cam
    metres, radians = float(np.linalg.norm(apart[:3, 3])), float(se3.rotation_angle(apart))
    if metres <= CONTRADICTION_M and radians <= CONTRADICTION_RAD:
        return answer
    return Localization(
        NOT_LOCALIZED,
        f"the network sees the image {metres:.1f} m and {np.degrees(radians):.0f} deg from where "
        f"{answer.inliers} matches place it",
        inliers=answer.inliers,
        generation=answer.generation,
        seconds=answer.seconds,
    )
