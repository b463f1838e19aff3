"""Files of a repository on the Hugging Face hub: listed, fetched with progress, or found in its cache.

Knows huggingface_hub, its cache and HF_HUB_OFFLINE; not what the files are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from vicrop_engine.errors import BuildError, CheckpointError, NoSpaceError, ViCropError
from vicrop_export.progress import FetchProgress
from vicrop_export.quiet import reason
from vicrop_export.staging import is_full

Result = TypeVar("Result")


def list_files(hub_id: str) -> list[str] | None:
    """Names of all files of a repository, or None when it cannot be reached. Raises CheckpointError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        return [sibling.rfilename for sibling in HfApi().model_info(hub_id).siblings or ()]
    except HFValidationError as error:
        raise CheckpointError(f"{hub_id!r} is neither a directory nor a hub id ({reason(error)})") from error
    except Exception:  # `fetch` meets it again where the files were not fetched before, and says so
        return None


def fetch(
    hub_id: str, names: Sequence[str], *, revision: str | None = None, progress: FetchProgress | None = None
) -> Path:
    """The directory with those of these files that the repository has, fetched unless they were before.

    A connection that ends too soon is taken up where it ended while this runs; another call fetches only what
    is not whole. Raises BuildError and NoSpaceError.
    """
    from huggingface_hub import snapshot_download

    def download(**options: Any) -> Any:
        return snapshot_download(hub_id, revision=revision, allow_patterns=list(names), **options)

    try:
        if progress is None:
            return Path(download())
        _announce(download, progress)
        return Path(_stoppable(lambda: download(tqdm_class=_bars(progress)), progress))
    except ViCropError:
        raise
    except (
        Exception
    ) as error:  # not all of httpx's are OSErrors, and which httpx it is depends on the version
        raise _failure(hub_id, error) from error


def _announce(download: Callable[..., Any], progress: FetchProgress) -> None:
    """Tell `progress` what is about to be fetched; nothing where the hub is out of reach."""
    from huggingface_hub.errors import DryRunError

    try:
        planned = download(dry_run=True)
    except DryRunError:
        return
    sizes = [file.file_size or 0 for file in planned if file.will_download]
    if sizes:
        progress.begin(len(planned), sum(sizes))


def _stoppable(work: Callable[[], Result], progress: FetchProgress) -> Result:
    """What `work` gives. On Ctrl-C it ends with the next bytes: huggingface_hub waits for whole files."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            progress.stop()
            raise


def _bars(progress: FetchProgress) -> type[Any]:
    """A class of bars for huggingface_hub that draw nothing and tell `progress`."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]
            self._reach = progress.reach if options.get("unit") == "B" else progress.reach_files

        def __iter__(self) -> Iterator[Any]:
            for item in super().__iter__():
                yield item
                self.update()

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            self._reach(int(self.n))

    return Bar


def _failure(hub_id: str, error: Exception) -> ViCropError:
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    cache = Path(constants.HF_HUB_CACHE)
    if is_full(error, cache):
        return NoSpaceError(
            f"no space left on the disk of {cache} for {hub_id}; free some, or set HF_HOME to another disk"
        )
    if constants.HF_HUB_OFFLINE and isinstance(error, LocalEntryNotFoundError):
        return BuildError(
            f"{hub_id} was never fetched here, or not all of it, and HF_HUB_OFFLINE is set; unset it, or "
            "give a local copy with --checkpoint DIR"
        )
    return BuildError(
        f"{hub_id} could not be fetched from the Hugging Face hub ({reason(error)}); check the network and "
        "the name and run it again, which keeps files that are whole, or give a local copy with "
        "--checkpoint DIR"
    )
