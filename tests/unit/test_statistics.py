"""Statistics: published values, what other packages give, and how often intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from zobnn_edge.errors import InputError
from zobnn_edge.faults.robustness import Curve, drop_ratio, rate_ratio
from zobnn_edge.faults.sampling import Stopping, allocate, error_of, sample_size
from zobnn_edge.faults.statistics import (
    Stratum,
    crossed,
    mean,
    proportion,
    quantile,
    resampled_means,
    stratified,
    unseen,
)


@pytest.mark.parametrize(
    ("population", "error", "confidence", "n"),
    [  # Leveugle et al., DATE 2009
        (None, 0.01, 0.95, 9604),
        (100_000, 0.01, 0.95, 8763),
        (None, 0.05, 0.95, 385),
        (None, 0.01, 0.99, 16588),
        (1000, 0.05, 0.95, 278),
        (100, 0.0001, 0.95, 100),
    ],
)
def test_sample_sizes(population: int | None, error: float, confidence: float, n: int) -> None:
    assert sample_size(population, error, confidence) == n
    assert error_of(n, population, confidence) <= error
    assert n == 100 or error_of(n - 1, population, confidence) > error


def test_impossible_sample_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="error 0: it must lie between 0 and 1"):
        sample_size(100, 0)
    with pytest.raises(InputError, match="confidence 95"):
        sample_size(100, 0.01, 95)


@pytest.mark.parametrize(
    ("method", "successes", "n", "low", "high"),
    [  # statsmodels.stats.proportion.proportion_confint(method="wilson" and "beta"); R's binom.test
        ("wilson", 10, 100, 0.05522914, 0.17436566),
        ("wilson", 0, 50, 0.0, 0.07134760),
        ("exact", 10, 100, 0.04900469, 0.17622260),
        ("exact", 0, 50, 0.0, 0.07112174),
        ("exact", 50, 50, 0.92887826, 1.0),
    ],
)
def test_proportions(method: str, successes: int, n: int, low: float, high: float) -> None:
    estimate = proportion(successes, n, method=method)  # type: ignore[arg-type]
    assert estimate == pytest.approx((successes / n, low, high), abs=2e-8)


@pytest.mark.parametrize("p", [0.02, 0.5, 0.9])
def test_proportion_intervals_cover_as_often_as_they_say(p: float) -> None:
    """The probability, over all numbers of successes, that the interval holds the truth."""
    for method, least, most in (("wilson", 0.93, 0.97), ("exact", 0.95, 0.99)):
        ends = [proportion(k, 200, method=method) for k in range(201)]  # type: ignore[arg-type]
        covered = sum(binom.pmf(k, 200, p) for k, (_, low, high) in enumerate(ends) if low <= p <= high)
        assert least <= covered <= most, method
    assert proportion(0, 0)[1:] == (0.0, 1.0)


def test_rule_of_three() -> None:
    assert unseen(1000) == pytest.approx(3 / 1000, rel=4e-3)
    assert unseen(0) == 1.0


def test_resampled_means_are_those_of_the_bootstrap() -> None:
    """Mean and spread as theory has them: the sample's mean, and its standard deviation (over n) by sqrt(n)."""
    x = np.random.default_rng(1).choice([0.0, 3.0, 60.0], 200, p=[0.2, 0.1, 0.7])
    means = resampled_means(x)
    assert means.mean() == pytest.approx(x.mean(), abs=4 * x.std() / np.sqrt(200 * 9999))
    assert means.std() == pytest.approx(x.std() / np.sqrt(200), rel=0.03)


def test_means_of_bimodal_samples_are_covered() -> None:
    """30 % of the trials ruined, 100 trials: the interval covers the mean about as often as it says."""
    rng, truth = np.random.default_rng(2), 0.7 * 90 + 0.3 * 10
    covered = [
        low <= truth <= high for _, low, high in (mean(rng.choice([90.0, 10.0], 100, p=[0.7, 0.3])) for _ in range(300))
    ]
    assert 0.91 <= np.mean(covered) <= 0.985
    assert mean(np.array([7.0, 7.0, 7.0])) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_quantiles_are_covered_whatever_the_distribution(q: float) -> None:
    rng = np.random.default_rng(3)
    for draw, truth in ((rng.exponential, -np.log(1 - q)), (rng.random, q)):
        covered = [low <= truth <= high for _, low, high in (quantile(draw(size=150), q) for _ in range(400))]
        assert 0.93 <= np.mean(covered) <= 0.995
    assert quantile([1.0, 2.0, 9.0]).value == 2.0


def test_strata_are_weighted_by_population() -> None:
    """A stratum of a tenth of the bits where all faults are critical, another where hardly one is."""
    estimate = stratified([Stratum(1000, 100, 100), Stratum(9000, 100, 0)])
    assert estimate.value == pytest.approx(0.1)
    assert 0.08 < estimate.low < 0.1 < estimate.high < 0.14
    assert stratified([Stratum(10, 10, 3), Stratum(30, 30, 1)]) == (0.1, 0.1, 0.1), "exhaustive: nothing is unknown"
    with pytest.raises(InputError, match="without trials"):
        stratified([Stratum(10, 0, 0)])


def test_stratified_intervals_cover() -> None:
    """Strata of unlike size and proportion, drawn without replacement, many without one success."""
    rng = np.random.default_rng(4)
    populations, criticals, n = (500, 4000, 20_000), (300, 40, 60), (40, 80, 200)
    truth = sum(criticals) / sum(populations)
    covered = []
    for _ in range(500):
        drawn = [int(rng.hypergeometric(c, p - c, k)) for p, c, k in zip(populations, criticals, n, strict=True)]
        _, low, high = stratified([Stratum(*s) for s in zip(populations, n, drawn, strict=True)])
        covered.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= 0.995


def test_many_small_strata_cover() -> None:
    """Hundreds of strata with two to five trials each, as layer, role and bit position make them."""
    rng = np.random.default_rng(6)
    populations = rng.choice([16, 32, 64], 400)
    criticals = rng.binomial(populations, np.minimum(1, rng.beta(0.6, 6, 400) * 2))
    n = np.maximum(1, populations // 12)
    truth = criticals.sum() / populations.sum()
    covered = []
    for _ in range(60):
        drawn = rng.hypergeometric(criticals, populations - criticals, n)
        found = [Stratum(*map(int, s)) for s in zip(populations, n, drawn, strict=True)]
        covered.append(stratified(found).low <= truth <= stratified(found).high)
    assert np.mean(covered) >= 0.93


def test_faults_and_images_are_kept_apart() -> None:
    """Trials that are all alike on images that differ: all the error is that of the images; and the other way round."""
    rng = np.random.default_rng(5)
    image = np.tile(rng.random(80) < 0.8, (50, 1))
    got = crossed(image)
    assert got.faults.half_width == 0
    assert got.images.half_width == pytest.approx(1.96 * np.sqrt(got.both.value * (1 - got.both.value) / 80), rel=0.15)
    fault = image.T
    assert crossed(fault).images.half_width == 0 < crossed(fault).faults.half_width
    mixed = crossed(rng.random((50, 80)) < rng.random((50, 1)) * 0.5 + 0.3)
    assert mixed.both.half_width >= mixed.faults.half_width > mixed.images.half_width > 0


def test_crossed_intervals_cover_new_faults_on_new_images() -> None:
    rng = np.random.default_rng(6)
    covered = []
    for _ in range(120):
        fault, image = rng.normal(size=(40, 1)), rng.normal(size=(1, 60))
        right = rng.normal(size=(40, 60)) < 1 + 0.7 * fault + 0.7 * image
        truth = 0.7602  # P(N < 1 + 0.7 A + 0.7 B) = Phi(1 / sqrt(1 + 2 * 0.49))
        both = crossed(right, resamples=400).both
        covered.append(both.low <= truth <= both.high)
    assert np.mean(covered) >= 0.9


def test_allocation() -> None:
    assert allocate(100, [50, 150, 300]) == [10, 30, 60]
    assert allocate(10, [1, 1, 1, 100_000]) == [1, 1, 1, 7]
    assert allocate(6, [3, 3]) == [3, 3]
    assert sum(allocate(97, [3, 1000, 17, 64, 9])) == 97
    with pytest.raises(InputError, match="2 trials for 3 strata"):
        allocate(2, [5, 5, 5])
    with pytest.raises(InputError, match="7 trials for 2 strata of 6 faults"):
        allocate(7, [3, 3])


def test_stopping_needs_enough_trials_to_have_met_a_ruin() -> None:
    stopping = Stopping(0.05)
    assert stopping.least == 59
    fine = np.full(100, 0.9)
    assert not stopping.suffices(fine[:50])
    assert stopping.suffices(fine)
    assert not stopping.suffices(np.tile([0.0, 0.9], 50))
    with pytest.raises(InputError, match="half width of 5"):
        Stopping(5)


def test_stopping_leaves_intervals_that_cover() -> None:
    """15 % of the trials are ruined; stopped at +-5 points, the truth is within 5 points as often as said."""
    rng, stopping = np.random.default_rng(7), Stopping(0.05)
    truth, inside, used = 0.85 * 0.9 + 0.15 * 0.1, [], []
    for _ in range(400):
        x = rng.choice([0.9, 0.1], 2000, p=[0.85, 0.15])
        n = next(n for n in range(50, 2001, 50) if stopping.suffices(x[:n]))
        inside.append(abs(x[:n].mean() - truth) <= 0.05)
        used.append(n)
    assert np.mean(inside) >= 0.92
    assert 100 <= np.median(used) <= 200, "theory: (1.96 * 0.286 / 0.05)^2 = 126"


def curve(fault_free: float, means: dict[float, float], n: int = 400) -> Curve:
    rng = np.random.default_rng(8)
    return Curve(
        fault_free, {r: np.where(rng.permutation(n) < n * m / fault_free, fault_free, 0) for r, m in means.items()}
    )


def test_times_more_robust_in_both_ways() -> None:
    """Curves that fall by 10 points at rates 10 apart, and by 20 and 5 points at one rate."""
    plain = curve(90.0, {1e-5: 90.0, 1e-4: 70.0, 1e-3: 30.0})
    hard = curve(90.0, {1e-5: 90.0, 1e-4: 85.5, 1e-3: 72.0})
    by_drop = drop_ratio(hard, plain, 1e-4)
    assert by_drop.ratio.value == pytest.approx(20 / 4.5, rel=0.05)
    assert by_drop.ratio.low < by_drop.ratio.value < by_drop.ratio.high
    by_rate = rate_ratio(hard, plain, 10)
    assert by_rate.ratio.value == pytest.approx(10 ** (1 + 5.5 / 13.5 - 0.5), rel=0.03)
    assert by_rate.ratio.low < by_rate.ratio.value < by_rate.ratio.high
    assert by_rate.bound == ""


def test_a_network_that_never_falls_is_at_least_so_robust() -> None:
    plain = curve(90.0, {1e-5: 90.0, 1e-4: 45.0})
    hard = curve(90.0, {1e-5: 90.0, 1e-4: 90.0})
    assert rate_ratio(hard, plain, 10).bound == "at least"
    assert drop_ratio(hard, plain, 1e-4).ratio.value == float("inf")
    with pytest.raises(InputError, match="loses nothing"):
        drop_ratio(plain, hard, 1e-4)
    with pytest.raises(InputError, match="neither network loses"):
        rate_ratio(hard, hard, 10)
    with pytest.raises(InputError, match=r"0\.5 was not measured"):
        drop_ratio(hard, plain, 0.5)
