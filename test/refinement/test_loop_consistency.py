"""Loops measured in real images err by about what they claim: neither more, nor so much less that
they would not pull.
"""

import numpy as np
import pytest
from folders import SHARED
from scipy.stats import chi2

from vggt3_ros.config import LoopConfig
from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.features.frame import encode_frame
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.loops import LoopVerifier

# times the deviation that loops may claim too much: what the matches share of errors differs from
# sensor to sensor
SHY = 2.5


@pytest.mark.parametrize(
    "name, odometry", [("kitchen", "odometry.txt"), ("fr1_xyz", "groundtruth.txt")]
)
def test_loops_err_by_what_they_claim(encoder, matcher, name, odometry):
    """Normalised errors squared within the bounds of chi-square, on either side; pairs with a
    keyframe in common are not independent, so that a quarter of them counts.
    """
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not here")
    sequence = open_dataset(SHARED / name, Options(odometry=odometry))
    chosen = [i for i in range(len(sequence)) if np.isfinite(sequence.groundtruth[i]).all()][:24]
    frames = [encode_frame(sequence.keyframes[i], encoder) for i in chosen]
    truth, verifier, squared = (
        sequence.groundtruth[chosen],
        LoopVerifier(LoopConfig(), matcher),
        [],
    )
    for gap in (1, 2, 4, 8):
        for i in range(gap, len(frames), gap):
            loop = verifier.verify("sequence", frames[i], frames[i - gap], False)
            if loop.accepted:
                error = se3.log(
                    se3.inverse(se3.inverse(truth[i]) @ truth[i - gap]) @ loop.T_source_target
                )
                squared.append(error @ loop.information @ error)
    assert len(squared) > 25
    freedom = 6 * len(squared) / 4
    low, high = chi2.ppf((0.001, 0.999), freedom) / freedom
    assert low / SHY**2 < np.mean(squared) / 6 < high, np.mean(squared) / 6
