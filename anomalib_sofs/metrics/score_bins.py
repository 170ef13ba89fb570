"""Histograms of scores of any range, so that curves over millions of pixels need bounded memory.

The bits of a float32 number, read as an integer, are in the order of the numbers; without the lower ones they number a
bin whose width is a share of its scores. No range has to be known beforehand: probabilities and distances are treated
alike.
"""

import torch
from torch import Tensor

FINE_BITS, COARSE_BITS = 9, 14
"""Bits that are dropped: of scores from 2^-24 to 2^16 a bin is at most 2^-14 wide, of all others 2^-9."""
LOW, HIGH = (127 - 24) << 23, (127 + 16) << 23  # the bits of these two scores
INFINITY = 0xFF << 23
BINS = ((HIGH - LOW) >> FINE_BITS) + ((2 * INFINITY - (HIGH - LOW)) >> COARSE_BITS) + 1
CHUNK = 2**20  # pixels that are binned at once: bounds what is needed besides the image itself


def score_bins(scores: Tensor) -> Tensor:
    """Return the bin of each score, int32 below :data:`BINS`; a higher score never lies in a lower bin."""
    bits = (scores.float() + 0.0).view(torch.int32)  # adding 0 turns the negative zero into the positive one
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    fine = ordered.clamp(LOW, HIGH)
    # how many coarse bins it lies beyond the fine ones; the rest in place: new memory takes longer than the sums
    bins = (ordered >> COARSE_BITS).sub_(fine >> COARSE_BITS)
    fine.sub_(LOW).bitwise_right_shift_(FINE_BITS)
    return bins.add_(fine).add_((INFINITY + LOW) >> COARSE_BITS)


def lowest_score(number: int) -> float:
    """Return the lowest score of a bin, see :func:`score_bins`."""
    zero, fine = INFINITY >> COARSE_BITS, (HIGH - LOW) >> FINE_BITS
    first = zero + (LOW >> COARSE_BITS)
    if number < first:
        ordered = (number - zero) << COARSE_BITS
    elif number < first + fine:
        ordered = LOW + ((number - first) << FINE_BITS)
    else:
        ordered = HIGH + ((number - first - fine) << COARSE_BITS)
    bits = ordered if ordered >= 0 else -ordered - 2**31
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


def score_histogram(scores: Tensor) -> Tensor:
    """Count the scores of each bin.

    Args:
        scores: Scores ``(N,)``.

    Returns:
        Counts ``(BINS,)``, int64, from the lowest scores to the highest.

    Raises:
        ValueError: If a score is not a number.
    """
    counts = torch.zeros(BINS, dtype=torch.int64, device=scores.device)
    for chunk in scores.split(CHUNK):
        check_numbers(chunk)
        counts += torch.bincount(score_bins(chunk), minlength=BINS)
    return counts


def normal_and_defect(scores: Tensor, target: Tensor, ignore: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the histograms of normal and of defective pixels.

    Args:
        scores: Scores of any shape.
        target: Truth of that shape.
        ignore: Pixels that do not count, of that shape.

    Raises:
        ValueError: If a score is not a number.
    """
    scores, target = scores.flatten(), target.flatten().bool()
    if ignore is not None:
        kept = ~ignore.flatten()
        scores, target = scores[kept], target[kept]
    both, defect = score_histogram(scores), score_histogram(scores[target])
    return both - defect, defect


def check_numbers(scores: Tensor) -> None:
    """Refuse NaN, which has no place in any order.

    Raises:
        ValueError: If a score is NaN.
    """
    if scores.numel() and scores.amax().isnan():  # in one pass: the maximum of anything with a NaN is NaN
        msg = (
            f"{int(scores.isnan().sum())} of {scores.numel()} scores are NaN: they cannot be ranked. Check the model "
            "and the precision that it runs in."
        )
        raise ValueError(msg)
