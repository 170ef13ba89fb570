"""What a distributed sampler shows twice counts once."""

from torch.utils.data import DataLoader, DistributedSampler


def new_rows(loader: object, seen: int, size: int) -> int:
    """Count the images of a batch that no process has seen before.

    Lightning replaces the sampler of every evaluation loader by torch's, which starts again at the end so that all
    processes get the same number of images. Its own sampler without repeats serves predictions only; in a loader of
    ours it would leave the stock datamodules as they are, and it fails with fewer images than processes.

    Such a sampler deals images out in turn: the n-th of a process is number ``n * processes + rank`` of all, and what
    goes beyond the data is repeated. These are the last images of a process.

    Args:
        loader: Where the batch comes from.
        seen: Images that this process got from it before.
        size: Images of the batch.

    Returns:
        How many of the first images of the batch are new.
    """
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler) if isinstance(loader, DataLoader) else None
    if not isinstance(sampler, DistributedSampler):
        return size
    share = len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))  # type: ignore[arg-type]
    return min(max(share - seen, 0), size)
