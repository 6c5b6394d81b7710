"""What the archive interface reports about the files that it holds."""

from collections.abc import Generator
from pathlib import Path

from ...bundle.content import CHUNK_BYTES
from ...errors import ArchiveError, ServiceUnavailable
from ...text import number_of
from .http import HttpService, NoAnswer


class Holdings:
    """The files that the archive interface behind ``service`` holds."""

    def __init__(self, service: HttpService) -> None:
        self._service = service

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes; None where the archive holds no such file."""
        return self.locate(file_id)[0]

    def locate(self, file_id: int) -> tuple[int | None, Path]:
        """The stored size, and the path on the archive's machine where the file lies; an empty one where unknown.

        The archive answers 500 for a file that it does not hold.
        """
        answer = self._service.request("HEAD", f"/{file_id}")
        length = number_of(answer.headers.get("X-Content-Length", ""))
        if answer.status == 204 and length is not None:
            return length, Path(answer.headers.get("X-Pacifica-File", ""))
        # An archive that fails answers 500 to everything, and a 403 does not mean that there is no file.
        if answer.status in (404, 500) and self._service.request("GET", "/").status == 200:
            return None, Path()
        raise ServiceUnavailable(
            f"the archive at {self._service.url} does not say whether it holds file {file_id}: {answer.message}"
        )

    def read(self, file_id: int, start: int = 0) -> Generator[bytes, None, None]:
        """The stored bytes from ``start`` on, in pieces."""
        try:
            with self._service.stream(f"/{file_id}") as response:
                if response.status != 200:
                    raise ArchiveError(
                        f"the archive at {self._service.url} does not return file {file_id}: {response.status}"
                    )
                for piece in response.stream(CHUNK_BYTES, decode_content=True):
                    if wanted := piece[start:]:
                        yield wanted
                    start = max(0, start - len(piece))
        except NoAnswer as error:
            raise ServiceUnavailable(f"the archive at {self._service.url} fails: {error}") from error
