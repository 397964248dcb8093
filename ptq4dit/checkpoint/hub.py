"""Quantized checkpoints on the Hugging Face hub: push one, fetch one."""

import re
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from ptq4dit.checkpoint.packed import save_quantized
from ptq4dit.model.bundle import Dit

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES = ["*.json", "*.safetensors", "*/*.safetensors", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja"]


def push_to_hub(model: Dit, repository: str, *, private: bool = True) -> str:
    """Save a quantized bundle and upload it as one commit.

    Args:
        model: what `ptq4dit.quantize` returned.
        repository: ``"user/name"``; made if it does not exist.
        private: for a repository that is made now.

    Returns:
        Address of the commit.

    Raises:
        ValueError: for a name of another form, or without a token.
    """
    _require_repository(repository)
    if get_token() is None:
        raise ValueError("Expected a Hugging Face token with write access, got none. Log in first: hf auth login.")
    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save_quantized(model, Path(folder) / "model")
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=Path(folder) / "model")
    return str(commit.commit_url)


def fetch_quantized(repository: str, revision: str | None = None) -> Path:
    """Download a quantized checkpoint, weights, configs and tokenizers only; its folder is for `load_quantized`.

    Raises:
        ValueError: if the name has another form or the repository cannot be reached.
    """
    _require_repository(repository)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ValueError(f"Expected a reachable hub repository, got {repository!r}: {error}") from error


def _require_repository(repository: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f'Expected a repository such as "user/dit-w4a8", got {repository!r}.')
