"""The odometry's scale against a map without one: outliers, a constant error of every step, hardly
any motion.
"""

import numpy as np
import pytest
from folders import SHARED
from scipy.stats import chi2

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.drift import drifting_odometry
from vggt3_ros.datasets.synthetic.apartment import TOUR
from vggt3_ros.datasets.synthetic.walk import pick_keyframes, walk
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.monocular.odometry_scale import motion_noise, odometry_scale

BIAS = 0.5  # of the simulated drifts


@pytest.fixture(scope="module")
def walked():
    _, path = walk(TOUR, 0)
    return path[pick_keyframes(path)]


def even(T):
    return np.tile(np.diag([0.02**2] * 3 + [0.01**2] * 3), (len(T), 1, 1))


def scaled(T, factor):
    T = T.copy()
    T[:, :3, 3] *= factor
    return T


def test_scale_is_found_beside_outliers(walked):
    wild = walked.copy()
    wild[::9, :3, 3] += np.random.default_rng(0).normal(0, 0.5, wild[::9, :3, 3].shape)
    assert odometry_scale(wild, even(wild), scaled(walked, 0.5)).metres == pytest.approx(
        2.0, rel=0.02
    )


def test_without_motion_or_steps_nothing_is_said(walked):
    assert odometry_scale(walked[:3], even(walked[:3]), scaled(walked[:3], 0.5)) is None
    still = np.tile(walked[0], (20, 1, 1))
    assert odometry_scale(still, even(still), still) is None


def test_the_join_of_two_runs_is_no_step(walked):
    joined, noise = walked.copy(), even(walked)
    joined[60:] = se3.exp([5.0, 3.0, 0, 0, 0, 1.0]) @ joined[60:]
    noise[60] = np.eye(6) * 1e4
    assert odometry_scale(joined, noise, scaled(walked, 0.5)).metres == pytest.approx(
        2.0, rel=1e-6
    )


def test_a_constant_error_of_the_steps_is_not_taken_for_scale(walked):
    """Drift of every kind that the demo makes: with the bias left in, as the plain ratio of
    lengths has it, the scale is farther off.
    """
    errors, plain = [], []
    for seed in range(12):
        odometry, noise = drifting_odometry(walked, seed)
        errors.append(odometry_scale(odometry, noise, walked).metres - 1)
        by_odometry, true = ((se3.inverse(T[:-1]) @ T[1:])[:, :3, 3] for T in (odometry, walked))
        plain.append((by_odometry * true).sum() / np.square(true).sum() - 1)
    rms = lambda values: np.sqrt(np.mean(np.square(values)))
    assert rms(errors) < 0.75 * rms(plain) and rms(errors) < 0.02, (errors, plain)


def best_linear(odometry, noise, walked):
    """Scale by generalized least squares over single steps, as one can only where the map is exact
    and the noise's law is known.
    """
    given, true = ((se3.inverse(T[:-1]) @ T[1:])[:, :3, 3] for T in (odometry, walked))
    deviation = np.sqrt(noise[1:, 0, 0] / (1 + BIAS**2))[:, None]
    unknowns = np.concatenate(
        [(true / deviation)[:, :, None], np.tile(np.eye(3), (len(true), 1, 1))], axis=2
    )
    normal = np.einsum("nij,nik->jk", unknowns, unknowns) + np.diag([0, 1, 1, 1]) / BIAS**2
    return np.linalg.solve(normal, np.einsum("nij,ni->j", unknowns, given / deviation))[0]


def test_thirty_drifts_are_read_nearly_as_well_as_their_noise_allows(walked):
    drifts = [drifting_odometry(walked, seed) for seed in range(30)]
    ours = np.array([odometry_scale(*drift, walked).metres - 1 for drift in drifts])
    best = np.array([best_linear(*drift, walked) - 1 for drift in drifts])
    rms = lambda values: np.sqrt(np.mean(np.square(values)))
    print(
        f"scale wrong by {100 * rms(ours):.2f} % (RMS), the best linear one by {100 * rms(best):.2f} %; "
        f"the first drift: {100 * ours[0]:.1f} and {100 * best[0]:.1f} %"
    )
    assert 0.005 < rms(best) < rms(ours) < 1.4 * rms(best)


def test_creeping_while_turning_is_not_taken_for_scale_where_the_front_end_says_nothing_of_its_noise(
    walked,
):
    def off(seed, guess):
        odometry, _ = drifting_odometry(walked, seed)
        steps = np.linalg.norm((se3.inverse(odometry[:-1]) @ odometry[1:])[:, :3, 3], axis=1)
        noise = np.tile(np.eye(6), (len(odometry), 1, 1))
        # of the pose graph: by length alone
        noise[1:] *= np.square(0.003 + 0.1 * steps)[:, None, None]
        return odometry_scale(odometry, guess(odometry, noise), walked).metres - 1

    rms = lambda guess: np.sqrt(np.mean(np.square([off(seed, guess) for seed in range(12)])))
    turning = rms(lambda odometry, noise: motion_noise(odometry, noise, np.ones(len(noise), bool)))
    assert turning < 0.75 * rms(lambda odometry, noise: noise) and turning < 0.02


def test_scale_errs_by_what_it_says(walked):
    """Normalised errors squared of many drifts within the bounds of chi-square, on either side."""
    drifts = [drifting_odometry(walked, seed, ate=0.1 + 0.01 * seed) for seed in range(40)]
    found = [odometry_scale(odometry, noise, walked) for odometry, noise in drifts]
    squared = sum((np.log(scale.metres) / scale.sigma) ** 2 for scale in found)
    low, high = chi2.ppf((0.001, 0.999), len(found))
    assert low < squared < high, squared / len(found)


def test_what_is_read_of_the_poses_is_their_scale(walked):
    """To first order: growing all positions by a share reads as that share, small changes of all
    poses about as odometry_scale has them.
    """
    odometry, noise = drifting_odometry(walked, 3)
    found = odometry_scale(odometry, noise, walked)
    grown = np.zeros((len(walked), 6))
    grown[:, :3] = np.einsum("nji,nj->ni", walked[:, :3, :3], walked[:, :3, 3] - (5.0, -3.0, 1.0))
    assert (found.by_pose * grown).sum() == pytest.approx(1, abs=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(5):
        small = rng.normal(0, 2e-4, grown.shape)
        read = -np.log(
            odometry_scale(odometry, noise, walked @ se3.exp(small)).metres / found.metres
        )
        assert read == pytest.approx(
            (found.by_pose * small).sum(), abs=0.6 * np.sqrt((found.by_pose**2).sum()) * 2e-4
        )


@pytest.mark.parametrize("name", ["kitchen", "v101"])
def test_real_odometry_has_the_scale_of_the_truth(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    sequence = open_dataset(folder, Options(odometry="odometry.txt", stereo=False))
    known = np.isfinite(sequence.groundtruth).all(axis=(1, 2))
    odometry, truth = sequence.T_odom_cam[known], sequence.groundtruth[known]
    steps = np.linalg.norm((se3.inverse(odometry[:-1]) @ odometry[1:])[:, :3, 3], axis=1)
    noise = np.tile(np.eye(6), (len(odometry), 1, 1))
    noise[1:] *= np.square(0.003 + 0.1 * steps)[:, None, None]
    found = odometry_scale(
        odometry, motion_noise(odometry, noise, np.ones(len(odometry), bool)), truth
    )
    assert abs(found.metres - 1) < 0.02 and abs(np.log(found.metres)) < 3 * found.sigma < 0.05


def test_what_the_front_end_says_of_its_noise_is_kept(walked):
    noise = even(walked)
    guessed = np.arange(len(noise)) % 2 == 0
    mixed = motion_noise(walked, noise, guessed)
    np.testing.assert_array_equal(mixed[~guessed], noise[~guessed])
    assert (mixed[guessed][1:, 0, 0] != noise[0, 0, 0]).all()
    np.testing.assert_array_equal(mixed[:, 3:], noise[:, 3:])
